// From the node's parameters to what is submitted.

import type { IDataObject, IExecuteFunctions } from 'n8n-workflow';
import { NodeOperationError } from 'n8n-workflow';

import { call, nodeError } from '../shared/api';
import { sha256 } from '../shared/hash';
import { tasks, type Task } from '../shared/options';
import { inputOf } from '../shared/schema';
import { refusalOf, type Failure } from './results';

type Mapped = { mappingMode: string; value: IDataObject | null };

/** JSON from the editor comes as text, from an expression perhaps as the thing itself. */
function json(caller: IExecuteFunctions, value: unknown, name: string, itemIndex: number): unknown {
	if (typeof value !== 'string') return value;
	try {
		return JSON.parse(value);
	} catch (error) {
		const message = `${name} is not valid JSON: ${(error as Error).message}`;
		const description =
			'Put texts from other nodes in with {{ JSON.stringify($json.text) }}, without quotes around it.';
		throw new NodeOperationError(caller.getNode(), message, { itemIndex, description });
	}
}

function input(caller: IExecuteFunctions, i: number, known: Task[]): unknown {
	const mode = caller.getNodeParameter('inputMode', i, 'text') as string;
	if (mode === 'json') return json(caller, caller.getNodeParameter('inputJson', i), 'The input', i);
	if (mode === 'text') {
		const text = caller.getNodeParameter('inputText', i);
		return typeof text === 'object' && text !== null ? JSON.stringify(text) : String(text ?? '');
	}
	const name = caller.getNodeParameter('task', i) as string;
	const schema = known.find((task) => task.name === name)?.input_schema;
	const mapped = caller.getNodeParameter('inputFields', i) as Mapped;
	const automatic = mapped.mappingMode === 'autoMapInputData';
	const values = automatic ? caller.getInputData()[i].json : (mapped.value ?? {});
	// A task that this Spillway does not have is refused by it, in its own words.
	return schema ? inputOf(schema, values, automatic) : values;
}

function provider(options: IDataObject): IDataObject | undefined {
	const wishes: IDataObject = {};
	for (const [option, wish] of [
		['providerOrder', 'order'],
		['providerOnly', 'only'],
		['providerIgnore', 'ignore'],
	]) {
		const names = options[option] as string[] | undefined;
		if (names?.length) wishes[wish] = names;
	}
	if (options.allowFallbacks !== undefined) wishes.allow_fallbacks = options.allowFallbacks;
	if (options.providerSort) wishes.sort = options.providerSort;
	return Object.keys(wishes).length > 0 ? wishes : undefined;
}

/** A date from the picker has no zone: it is meant in the workflow's. */
function moment(caller: IExecuteFunctions, value: unknown, itemIndex: number): string {
	const text = value instanceof Date ? value.toISOString() : String(value);
	const zoned = /(Z|[+-]\d\d:?\d\d)$/.test(text) ? text : undefined;
	const resolved =
		zoned ??
		caller.evaluateExpression(
			`{{ DateTime.fromISO(${JSON.stringify(text)}, { zone: $now.zone }).toISO() }}`,
			itemIndex,
		);
	const time = new Date(String(resolved));
	if (Number.isNaN(time.getTime())) {
		throw new NodeOperationError(caller.getNode(), `"${text}" is not a time for Deliver By`, {
			itemIndex,
			description: 'Give it as 2026-11-20T18:00:00Z or as a date of an expression, such as {{ $now.plus(1, "hour") }}.',
		});
	}
	return time.toISOString();
}

function job(caller: IExecuteFunctions, i: number, known: Task[]): IDataObject {
	const options = caller.getNodeParameter('options', i, {}) as IDataObject;
	const made: IDataObject = {
		task: caller.getNodeParameter('task', i) as string,
		input: input(caller, i, known) as IDataObject,
		workflow: String(options.workflow || (caller.getWorkflow().id ?? 'n8n')),
	};
	if (options.lane) made.lane = options.lane;
	if (options.session) made.session = String(options.session);
	if (options.deliverBy) made.deliver_by = moment(caller, options.deliverBy, i);
	if (options.maxCostUsd !== undefined) made.max_cost_usd = options.maxCostUsd;
	if (options.metadata !== undefined) {
		made.metadata = json(caller, options.metadata, 'Metadata', i) as IDataObject;
	}
	const wishes = provider(options);
	if (wishes) made.provider = wishes;
	return made;
}

/** An item's job, or why it has none. */
export interface Prepared {
	job?: IDataObject;
	failure?: Failure;
}

/** One job for each input item, in their order; a bad item fails the node unless it is to go on. */
export async function jobs(caller: IExecuteFunctions): Promise<Prepared[]> {
	const byFields = caller.getNodeParameter('inputMode', 0, 'text') === 'fields';
	const known = byFields ? await tasks(caller) : [];
	return caller.getInputData().map((_, i) => {
		try {
			return { job: job(caller, i, known) };
		} catch (error) {
			if (!caller.continueOnFail()) throw nodeError(caller, error, i);
			return { failure: refusalOf(error) };
		}
	});
}

/** A key as a header carries it: n8n loses other characters, and Spillway takes no more of them. */
export function plainKey(key: string): string {
	const plain = key.length <= 255 && /^[!#-~]([ -~]*[!-~])?$/.test(key);
	return plain ? key : `sha256-${sha256(key)}`;
}

function ownKey(caller: IExecuteFunctions, itemIndex: number): string {
	const { idempotencyKey: own } = caller.getNodeParameter('options', itemIndex, {}) as IDataObject;
	return String(own ?? '').trim();
}

/** The same on every try of this node's run, another in every other. */
function runKey(caller: IExecuteFunctions): string {
	const run = caller.evaluateExpression('{{ $runIndex }}', 0) as number;
	const instance = caller.getInstanceId().slice(0, 12);
	const place = [caller.getWorkflow().id, caller.getExecutionId(), caller.getNode().id, run];
	return `n8n-${instance}-${place.join('-')}`;
}

/**
 * For a group without the refused items: n8n's Retry on Fail finds the jobs of the first try, though
 * it begins with all items again.
 */
export function groupKey(caller: IExecuteFunctions, refused: string[] = []): string {
	// A request that is to wake an execution is that execution's: no other may find its jobs.
	const waits = caller.getNodeParameter('operation', 0) === 'runAndWait';
	const key = (waits ? '' : ownKey(caller, 0)) || runKey(caller);
	return plainKey(refused.length > 0 ? `${key}-without-${refused.join('.')}` : key);
}

/** For each item's own job: a key of the user's stands for the same job wherever its item stands. */
export function jobKeys(caller: IExecuteFunctions, made: Prepared[]): string[] {
	const own = made.map(({ job }, i) => (job ? ownKey(caller, i) : ''));
	const times = new Map<string, number>();
	for (const key of own) times.set(key, (times.get(key) ?? 0) + 1);
	const run = runKey(caller);
	return own.map((key, i) => {
		if (key === '') return plainKey(`${run}-${i}`);
		return plainKey(times.get(key)! > 1 ? `${key} #${i}` : key);
	});
}

/** Says what to do before Spillway refuses a group for its size. */
export async function checkSize(caller: IExecuteFunctions, group: IDataObject): Promise<void> {
	const count = (group.jobs as IDataObject[]).length;
	const bytes = Buffer.byteLength(JSON.stringify(group));
	if (count <= 100 && bytes <= 1_000_000) return;
	const { body } = await call(caller, { path: '/v1/me' });
	const limits = (body.limits ?? {}) as { max_group?: number; max_group_body?: number };
	const tooMany = limits.max_group !== undefined && count > limits.max_group;
	const tooLarge = limits.max_group_body !== undefined && bytes > limits.max_group_body;
	if (!tooMany && !tooLarge) return;
	const most = tooMany
		? limits.max_group!
		: Math.max(1, Math.floor((count * limits.max_group_body! * 0.8) / bytes));
	const size = Math.min(most, limits.max_group ?? most);
	const message = tooMany
		? `${count} items are more than the ${limits.max_group} that Spillway takes as one group`
		: `The ${count} items have ${bytes} bytes together, and Spillway takes ${limits.max_group_body} as one group`;
	throw new NodeOperationError(caller.getNode(), message, {
		description: `Put a Loop Over Items node with a batch size of ${size} or less before this one, and lead its loop back from here.`,
	});
}
