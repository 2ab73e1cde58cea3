// Run a task and wait: all items are one group, as an n8n execution can be resumed only once. The
// node submits, puts the execution to sleep and runs again when Spillway has called: then it finds
// its group and fetches the results. The call itself is only the bell.

import type {
	IDataObject,
	IExecuteFunctions,
	INodeExecutionData,
	IWebhookFunctions,
	IWebhookResponseData,
} from 'n8n-workflow';
import { NodeOperationError, sleep } from 'n8n-workflow';

import { call } from '../shared/api';
import { checkSize, idempotencyKey, jobs } from './jobs';
import { itemsOf } from './results';
import { entryOf, mustPoll } from './sleeping';

/** What the node remembers within the execution's data, over restarts. */
interface Submitted {
	group: string;
	execution: string;
	run: number;
	jobs: string;
}

export async function runAndWait(this: IExecuteFunctions): Promise<INodeExecutionData[][]> {
	const polling = mustPoll(this);
	const known = remembered(this);
	const group = known ?? (await submit(this, polling));
	if (known !== undefined || polling) {
		const results = polling ? await poll(this, group) : await ended(this, group);
		if (results) return [itemsOf(this, results)];
	}
	return await goToSleep(this, group);
}

/** The group that this run of the node has submitted already. */
function remembered(caller: IExecuteFunctions): string | undefined {
	const { group, execution, run } = caller.getContext('node') as Partial<Submitted>;
	const own = execution === caller.getExecutionId() && run === runIndex(caller);
	return own ? group : undefined;
}

function runIndex(caller: IExecuteFunctions): number {
	return caller.evaluateExpression('{{ $runIndex }}', 0) as number;
}

async function submit(caller: IExecuteFunctions, polling: boolean): Promise<string> {
	const group: IDataObject = { jobs: await jobs(caller) };
	if (!polling) {
		group.callback_url = caller.evaluateExpression('{{ $execution.resumeUrl }}', 0) as string;
		// n8n answers 409 until the execution sleeps.
		group.callback = { min_delay: '250ms' };
	}
	await checkSize(caller, group);
	const { body } = await call(caller, {
		method: 'POST',
		path: '/v1/groups',
		headers: { 'Idempotency-Key': idempotencyKey(caller) },
		body: group,
	});
	const submitted: Partial<Submitted> = {
		group: String(body.id),
		execution: caller.getExecutionId(),
		run: runIndex(caller),
	};
	Object.assign(caller.getContext('node'), submitted);
	return String(body.id);
}

/** The results in the items' order, once the last job has ended. */
async function ended(caller: IExecuteFunctions, group: string): Promise<IDataObject[] | undefined> {
	const { body } = await call(caller, { path: `/v1/groups/${group}` });
	return body.status === 'finished' ? (body.results as IDataObject[]) : undefined;
}

function limitOf(caller: IExecuteFunctions): Date {
	const { waitLimit = 4320 } = caller.getNodeParameter('options', 0, {}) as { waitLimit?: number };
	return new Date(Date.now() + waitLimit * 60_000);
}

function late(caller: IExecuteFunctions, group: string): NodeOperationError {
	const message = `Spillway has not called within the wait limit; its group is ${group}`;
	return new NodeOperationError(caller.getNode(), message, {
		description: `Its jobs are not lost: fetch them with the operation Get and the ID ${group}. GET /v1/groups/${group}/deliveries tells what n8n answered to its calls; behind a proxy set N8N_WEBHOOK_URL.`,
	});
}

/** Asks until the end; a stopped execution cancels its jobs. */
async function poll(caller: IExecuteFunctions, group: string): Promise<IDataObject[]> {
	const { pollInterval = 2 } = caller.getNodeParameter('options', 0, {}) as { pollInterval?: number };
	const limit = limitOf(caller).getTime();
	let pause = 0.2;
	for (;;) {
		const results = await ended(caller, group);
		if (results) return results;
		if (caller.getExecutionCancelSignal()?.aborted) {
			await call(caller, { method: 'DELETE', path: `/v1/groups/${group}` });
			throw new NodeOperationError(caller.getNode(), 'The execution was stopped; its jobs are cancelled');
		}
		if (Date.now() > limit) throw late(caller, group);
		await sleep(pause * 1000);
		pause = Math.min(pause * 2, Math.max(1, pollInterval));
	}
}

async function goToSleep(
	caller: IExecuteFunctions,
	group: string,
): Promise<INodeExecutionData[][]> {
	// At the limit n8n would go on with this node's input and no error: `resumeError` makes it fail.
	caller.setMetadata({ resumeError: late(caller, group) });
	await caller.putExecutionToWait(limitOf(caller));
	const json = { id: group, object: 'group', status: 'running' };
	return [caller.getInputData().map((_, item) => ({ json, pairedItem: { item } }))];
}

/** Spillway's call: wakes the execution when it is about the group that is waited for. */
export async function woken(this: IWebhookFunctions): Promise<IWebhookResponseData> {
	const { id, data } = this.getBodyData() as { id?: string; data?: IDataObject };
	const told = data?.id ?? id;
	const name = JSON.stringify(this.getNode().name);
	const expected = this.evaluateExpression(`{{ $node[${name}].context["group"] }}`, 0);
	const entry = entryOf(this);
	if (entry === undefined || typeof told !== 'string' || told !== expected) {
		// 410 ends the delivery: a repeat of an earlier wait must not be tried for days.
		const detail = 'This execution does not wait for this result.';
		this.getResponseObject().status(410).json({ status: 410, detail });
		return { noWebhookResponse: true };
	}
	// n8n resumes a node as a disabled one that passes its data on. This one is to run again, on its
	// own input: so it can fail, go on or use the error output as any node does.
	entry.node.disabled = false;
	delete entry.metadata?.resumeError;
	return { workflowData: entry.data.main as INodeExecutionData[][] };
}
