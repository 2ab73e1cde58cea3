// From results to items: one for each input item, those that failed as the node's settings say.

import type { IDataObject, IExecuteFunctions, INodeExecutionData } from 'n8n-workflow';
import { NodeOperationError } from 'n8n-workflow';

/** Why there is no result, in the shape that `error` has in a result. */
export interface Failure extends IDataObject {
	code: string | null;
	message: string;
	hint: string | null;
}

/** What went wrong with a job, in the words of its result. */
export function failureOf(result: IDataObject): Failure {
	const error = (result.error ?? {}) as Partial<Failure>;
	return {
		...error,
		code: error.code ?? String(result.status),
		message: error.message ?? `The job ended as ${String(result.status)}.`,
		hint: error.hint ?? null,
	};
}

/** What went wrong with a request. */
export function refusalOf(error: unknown): Failure {
	const { message, description, context } = error as Error & {
		description?: string | null;
		context?: IDataObject;
	};
	return {
		code: (context?.code as string | undefined) ?? 'request_failed',
		message,
		hint: description ?? null,
	};
}

/** The item of a job that failed; its whole result goes along. */
export function failedItem(
	caller: IExecuteFunctions,
	failure: Failure,
	item: number,
	result?: IDataObject,
): INodeExecutionData {
	// n8n leads an item to the error output when it has nothing but these keys, and adds the input's.
	const bare = caller.getNode().onError === 'continueErrorOutput' || result === undefined;
	const json = bare ? { error: failure, ...(result && { details: result }) } : { ...result, error: failure };
	return { json, pairedItem: { item } };
}

/**
 * An item for each input item, in their order: its refusal, or the next of the results. The first
 * that failed fails the node unless it is to go on.
 */
export function itemsOf(
	caller: IExecuteFunctions,
	results: IDataObject[],
	refused: Record<string, Failure> = {},
): INodeExecutionData[] {
	const next = results.values();
	const all = caller.getInputData().map((_, item) => {
		const refusal = refused[item];
		const result = refusal ? undefined : (next.next().value as IDataObject | undefined);
		return { item, result, failure: refusal ?? (result?.ok === true ? undefined : failureOf(result ?? {})) };
	});
	const failed = all.filter(({ failure }) => failure !== undefined).length;
	return all.map(({ item, result, failure }) => {
		if (failure === undefined) return { json: result!, pairedItem: { item } };
		if (caller.continueOnFail()) return failedItem(caller, failure, item, result);
		const of = failed > 1 ? ` (${failed} of ${all.length} items failed)` : '';
		const job = result ? `Job ${String(result.id)}, ${String(failure.code)}.` : '';
		throw new NodeOperationError(caller.getNode(), `Item ${item}: ${failure.message}${of}`, {
			itemIndex: item,
			description: [failure.hint, job].filter(Boolean).join(' '),
		});
	});
}
