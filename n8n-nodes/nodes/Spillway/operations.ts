// The operations that do not wait.

import type { IDataObject, IExecuteFunctions, INodeExecutionData } from 'n8n-workflow';
import { NodeOperationError } from 'n8n-workflow';

import { call, nodeError, type Call } from '../shared/api';
import { checkSize, groupKey, jobKeys, jobs, type Prepared } from './jobs';
import { failedItem, refusalOf } from './results';
import { nameItem } from './submitting';

const PAGE = 100;

/** Runs an operation for each item; with Continue on Fail a refused one is an item with `error`. */
async function forEach(
	caller: IExecuteFunctions,
	run: (item: number) => Promise<IDataObject[]>,
): Promise<INodeExecutionData[][]> {
	const out: INodeExecutionData[] = [];
	for (const item of caller.getInputData().keys()) {
		try {
			for (const json of await run(item)) out.push({ json, pairedItem: { item } });
		} catch (error) {
			if (!caller.continueOnFail()) throw nodeError(caller, error, item);
			out.push(failedItem(caller, refusalOf(error), item));
		}
	}
	return [out];
}

export async function submit(this: IExecuteFunctions): Promise<INodeExecutionData[][]> {
	const made = await jobs(this);
	if (this.getNodeParameter('sendAs', 0) === 'jobs') {
		const keys = jobKeys(this, made);
		return await forEach(this, async (i) => {
			const { job, failure } = made[i];
			if (job === undefined) throw new NodeOperationError(this.getNode(), failure!.message, { itemIndex: i });
			const url = this.getNodeParameter('callbackUrl', i) as string;
			return [await post(this, '/v1/jobs', keys[i], url ? { ...job, callback_url: url } : job, i)];
		});
	}
	return await whole(this, made);
}

/** All items as one group: it is taken as a whole or not at all. */
async function whole(caller: IExecuteFunctions, made: Prepared[]): Promise<INodeExecutionData[][]> {
	const pairedItem = made.map((_, item) => ({ item }));
	try {
		const bad = made.findIndex(({ failure }) => failure !== undefined);
		if (bad >= 0) {
			const message = `Item ${bad}: ${made[bad].failure!.message}`;
			throw new NodeOperationError(caller.getNode(), message, { itemIndex: bad });
		}
		const group: IDataObject = { jobs: made.map(({ job }) => job!) };
		const url = caller.getNodeParameter('callbackUrl', 0) as string;
		if (url) group.callback_url = url;
		await checkSize(caller, group);
		return [[{ json: await post(caller, '/v1/groups', groupKey(caller), group), pairedItem }]];
	} catch (error) {
		const item = nameItem(error as Error, [...made.keys()]);
		if (!caller.continueOnFail()) throw nodeError(caller, error, item);
		return [made.map((_, item) => failedItem(caller, refusalOf(error), item))];
	}
}

async function post(
	caller: IExecuteFunctions,
	path: string,
	key: string,
	body: IDataObject,
	itemIndex?: number,
): Promise<IDataObject> {
	const headers = { 'Idempotency-Key': key };
	return (await call(caller, { method: 'POST', path, body, headers, itemIndex })).body;
}

/** Jobs and groups are told apart by their id. */
function pathOf(caller: IExecuteFunctions, itemIndex: number): { path: string; group: boolean } {
	const id = String(caller.getNodeParameter('id', itemIndex)).trim();
	const group = id.startsWith('grp_');
	if (group || id.startsWith('job_')) {
		return { path: `/v1/${group ? 'groups' : 'jobs'}/${encodeURIComponent(id)}`, group };
	}
	throw new NodeOperationError(caller.getNode(), `"${id}" is not the ID of a job or a group`, {
		itemIndex,
		description: 'They begin with job_ or grp_ and are told as "id" by the operation that submitted.',
	});
}

export async function get(this: IExecuteFunctions): Promise<INodeExecutionData[][]> {
	return await forEach(this, async (itemIndex) => {
		const { path, group } = pathOf(this, itemIndex);
		const wait = this.getNodeParameter('wait', itemIndex, 0) as number;
		const qs = wait > 0 && !group ? { wait } : undefined;
		return [(await call(this, { path, qs, itemIndex })).body];
	});
}

export async function cancel(this: IExecuteFunctions): Promise<INodeExecutionData[][]> {
	return await forEach(this, async (itemIndex) => {
		const { path } = pathOf(this, itemIndex);
		return [(await call(this, { method: 'DELETE', path, itemIndex })).body];
	});
}

export async function replay(this: IExecuteFunctions): Promise<INodeExecutionData[][]> {
	return await forEach(this, async (itemIndex) => {
		const { path, group } = pathOf(this, itemIndex);
		const what = this.getNodeParameter('what', itemIndex) as string;
		const request: Call = {
			method: 'POST',
			path: `${path}/replay`,
			qs: what !== 'auto' && !group ? { what } : undefined,
			itemIndex,
			// A lost answer to "run again" must not be paid for twice.
			repeatable: false,
		};
		return [(await call(this, request)).body];
	});
}

export async function list(this: IExecuteFunctions): Promise<INodeExecutionData[][]> {
	return await forEach(this, async (itemIndex) => {
		const all = this.getNodeParameter('returnAll', itemIndex) as boolean;
		const most = all ? Infinity : (this.getNodeParameter('limit', itemIndex) as number);
		const filters = this.getNodeParameter('filters', itemIndex, {}) as IDataObject;
		const chosen = Object.entries(filters).filter(([, value]) => value !== '' && value !== undefined);
		const found: IDataObject[] = [];
		let after: string | undefined;
		do {
			const limit = Math.min(PAGE, most - found.length);
			const qs = { ...Object.fromEntries(chosen), limit, ...(after !== undefined && { after }) };
			const { body } = await call(this, { path: '/v1/jobs', qs, itemIndex });
			found.push(...((body.data ?? []) as IDataObject[]));
			after = (body.next as string | null) ?? undefined;
		} while (after !== undefined && found.length < most);
		return found;
	});
}
