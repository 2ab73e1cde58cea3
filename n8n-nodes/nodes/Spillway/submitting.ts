// Submitting all items as one group, once: what was submitted is remembered within the execution's
// data, over restarts and retries.

import type { IDataObject, IExecuteFunctions } from 'n8n-workflow';

import { call, nodeError } from '../shared/api';
import { sha256 } from '../shared/hash';
import { checkSize, groupKey, jobs, type Prepared } from './jobs';
import { refusalOf, type Failure } from './results';

export interface Submitted {
	/** None when every item was refused. */
	group?: string;
	execution: string;
	run: number;
	/** Tells whether a retried execution asks for the same. */
	print: string;
	/** Items that have no job, by their index. */
	refused: Record<string, Failure>;
}

function memory(caller: IExecuteFunctions): { spillway?: Submitted } {
	return caller.getContext('node') as { spillway?: Submitted };
}

function runIndex(caller: IExecuteFunctions): number {
	return caller.evaluateExpression('{{ $runIndex }}', 0) as number;
}

function printOf(prepared: Prepared[]): string {
	return sha256(JSON.stringify(prepared));
}

/** What this run of the node has submitted already. */
export function remembered(caller: IExecuteFunctions): Submitted | undefined {
	const kept = memory(caller).spillway;
	const own = kept?.execution === caller.getExecutionId() && kept?.run === runIndex(caller);
	return own ? kept : undefined;
}

/**
 * What the execution that is retried here has submitted, if the same is asked for again: results
 * that are there are not paid for twice, and only jobs without one run again.
 */
export async function retried(caller: IExecuteFunctions): Promise<Submitted | undefined> {
	const kept = memory(caller).spillway;
	if (caller.getMode() !== 'retry' || kept?.group === undefined || kept.run !== runIndex(caller)) {
		return undefined;
	}
	if (kept.print !== printOf(await jobs(caller)) || Object.keys(kept.refused).length > 0) return undefined;
	const path = `/v1/groups/${kept.group}`;
	const { status, body } = await call(caller, { path, accept: [404] });
	if (status === 404) return undefined;
	for (const { id, ok, finished_at: end } of body.results as IDataObject[]) {
		if (ok || end === null) continue;
		// One that another retry has set going is not ended any more.
		const replay = { method: 'POST' as const, path: `/v1/jobs/${String(id)}/replay`, accept: [409] };
		await call(caller, { ...replay, qs: { what: 'run' }, repeatable: false });
	}
	return { ...kept, execution: caller.getExecutionId() };
}

const PLACE = /^Job (\d+) of the group: /;

/** The place within the group of the job that a refusal is about. */
export function refusedJob(error: unknown): number | undefined {
	const told = PLACE.exec((error as Error).message);
	return told ? Number(told[1]) : undefined;
}

/** Calls a refused job by the item it was made from. */
export function nameItem(error: Error, items: number[]): number | undefined {
	const place = refusedJob(error);
	const item = place === undefined ? undefined : items[place];
	if (item !== undefined) error.message = error.message.replace(PLACE, `Item ${item}: `);
	return item;
}

export async function submit(caller: IExecuteFunctions, polling: boolean): Promise<Submitted> {
	const prepared = await jobs(caller);
	const refused: Record<string, Failure> = {};
	for (const [item, { failure }] of prepared.entries()) if (failure) refused[item] = failure;
	const submitted = {
		group: await send(caller, prepared, refused, polling),
		execution: caller.getExecutionId(),
		run: runIndex(caller),
		print: printOf(prepared),
		refused,
	};
	memory(caller).spillway = submitted;
	return submitted;
}

/** Submits what is not refused; where the workflow goes on, one bad item does not stop the others. */
async function send(
	caller: IExecuteFunctions,
	prepared: Prepared[],
	refused: Record<string, Failure>,
	polling: boolean,
): Promise<string | undefined> {
	for (;;) {
		const items = [...prepared.keys()].filter((item) => !(item in refused));
		if (items.length === 0) return undefined;
		try {
			const made = items.map((item) => prepared[item].job!);
			// As a retry begins with all items again, every request without some has a key of its own.
			return await post(caller, made, groupKey(caller, Object.keys(refused)), polling);
		} catch (error) {
			const bare = error.message.replace(PLACE, '');
			const item = nameItem(error, items);
			if (item === undefined) throw nodeError(caller, error);
			if (!caller.continueOnFail()) throw nodeError(caller, error, item);
			refused[item] = { ...refusalOf(error), message: bare };
		}
	}
}

async function post(
	caller: IExecuteFunctions,
	made: IDataObject[],
	key: string,
	polling: boolean,
): Promise<string> {
	const group: IDataObject = { jobs: made };
	if (!polling) {
		group.callback_url = caller.evaluateExpression('{{ $execution.resumeUrl }}', 0) as string;
		// n8n answers 409 until the execution sleeps. It only wakes: results may be larger than n8n takes.
		group.callback = { body: 'thin', min_delay: '250ms' };
	}
	await checkSize(caller, group);
	const { body } = await call(caller, {
		method: 'POST',
		path: '/v1/groups',
		headers: { 'Idempotency-Key': key },
		body: group,
	});
	return String(body.id);
}
