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

import { call, nodeError, passing, type Call, type Caller } from '../shared/api';
import { itemsOf, failedItem, refusalOf } from './results';
import { contextOf, entryOf, mustPoll } from './sleeping';
import { remembered, retried, submit, type Submitted } from './submitting';

const DEFAULT_LIMIT_MINUTES = 3 * 24 * 60;

export async function runAndWait(this: IExecuteFunctions): Promise<INodeExecutionData[][]> {
	try {
		return await run(this);
	} catch (error) {
		if (!this.continueOnFail()) throw nodeError(this, error);
		// Thrown, n8n would send the input to the success output.
		const refusal = refusalOf(error);
		return [this.getInputData().map((_, item) => failedItem(this, refusal, item))];
	}
}

async function run(caller: IExecuteFunctions): Promise<INodeExecutionData[][]> {
	const known = remembered(caller);
	const old = known ? undefined : await retried(caller);
	const polling = old !== undefined || mustPoll(caller);
	const submitted = known ?? old ?? (await submit(caller, polling));
	const { group, refused } = submitted;
	if (group === undefined) return [itemsOf(caller, [], refused)];
	const fresh = known === undefined;
	const results = polling ? await poll(caller, group) : fresh ? undefined : await fetched(caller, group);
	return results ? [itemsOf(caller, results, refused)] : await goToSleep(caller, group);
}

/** The results in the items' order, once the last job has ended. */
async function ended(caller: IExecuteFunctions, group: string): Promise<IDataObject[] | undefined> {
	const { body } = await call(caller, { path: `/v1/groups/${group}` });
	return body.status === 'finished' ? (body.results as IDataObject[]) : undefined;
}

/** Woken, with a Spillway that cannot answer just now: nobody would wake the execution again. */
async function fetched(caller: IExecuteFunctions, group: string): Promise<IDataObject[] | undefined> {
	try {
		return await ended(caller, group);
	} catch (error) {
		if (passing(error)) return await poll(caller, group);
		throw nodeError(caller, error);
	}
}

function limitOf(caller: IExecuteFunctions): Date {
	const options = caller.getNodeParameter('options', 0, {}) as { waitLimit?: number };
	return new Date(Date.now() + (options.waitLimit ?? DEFAULT_LIMIT_MINUTES) * 60_000);
}

function late(caller: IExecuteFunctions, group: string, trouble?: Error): NodeOperationError {
	const why = trouble ? ` (at last: ${trouble.message})` : '';
	const message = `Spillway's results did not come within the wait limit; the group is ${group}${why}`;
	return new NodeOperationError(caller.getNode(), message, {
		description: `The jobs are not lost: fetch them with the operation Get and the ID ${group}. What n8n answered to Spillway's calls stands under /v1/groups/${group}/deliveries; behind a proxy set N8N_WEBHOOK_URL.`,
	});
}

/** n8n breaks off a stopped execution's requests; the one that cancels its jobs must go out then. */
function unstopped(caller: IExecuteFunctions): Caller {
	const { helpers } = caller;
	const getNode = () => caller.getNode();
	const getCredentials = async (type: string) => await caller.getCredentials(type);
	return { helpers, getNode, getCredentials } as unknown as Caller;
}

/** Asks until the end; a stopped execution cancels its jobs. */
async function poll(caller: IExecuteFunctions, group: string): Promise<IDataObject[]> {
	const options = caller.getNodeParameter('options', 0, {}) as { pollInterval?: number };
	const longest = Math.max(1, options.pollInterval ?? 2);
	const limit = limitOf(caller).getTime();
	const cancel: Call = { method: 'DELETE', path: `/v1/groups/${group}`, accept: [404, 409] };
	const freed = unstopped(caller);
	const stopped = caller.getExecutionCancelSignal();
	caller.onExecutionCancellation(async () => {
		try {
			await call(freed, cancel);
		} catch (error) {
			caller.logger.warn(`The jobs of ${group} were not cancelled: ${(error as Error).message}`);
		}
	});
	for (let pause = 0.2; ; pause = Math.min(pause * 2, longest)) {
		let trouble: Error | undefined;
		try {
			const results = await ended(caller, group);
			if (results) return results;
		} catch (error) {
			if (!passing(error) || stopped?.aborted) throw nodeError(caller, error);
			trouble = error as Error;
		}
		if (Date.now() > limit) throw late(caller, group, trouble);
		await sleep(pause * 1000);
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
	const { id, data } = (this.getBodyData() ?? {}) as { id?: string; data?: IDataObject };
	const told = data?.id ?? id;
	const memory = contextOf(this).spillway as Partial<Submitted> | undefined;
	const entry = entryOf(this);
	if (entry === undefined || typeof told !== 'string' || told !== memory?.group) {
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
