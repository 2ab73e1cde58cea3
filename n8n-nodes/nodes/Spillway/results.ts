// From results to items: one for each input item, those that failed as the node's settings say.

import type { IDataObject, IExecuteFunctions, INodeExecutionData } from 'n8n-workflow';
import { NodeOperationError } from 'n8n-workflow';

/** What went wrong with a job, in the words of its result. */
export function failureOf(result: IDataObject): { message: string; description: string } {
	const error = (result.error ?? {}) as IDataObject;
	const told = error.message ?? `The job ended as ${String(result.status)}`;
	const hint = typeof error.hint === 'string' ? `${error.hint} ` : '';
	const code = error.code ? `, ${String(error.code)}` : '';
	return {
		message: String(told),
		description: `${hint}(task ${String(result.task)}, ${String(result.id)}${code})`,
	};
}

/** An item for each result; the first that failed fails the node unless it is to go on. */
export function itemsOf(caller: IExecuteFunctions, results: IDataObject[]): INodeExecutionData[] {
	const failed = results.filter((result) => result.ok !== true).length;
	return results.map((json, item) => {
		if (json.ok === true) return { json, pairedItem: { item } };
		const { message, description } = failureOf(json);
		const of = failed > 1 ? ` (${failed} of ${results.length} items failed)` : '';
		const error = new NodeOperationError(caller.getNode(), `Item ${item}: ${message}${of}`, {
			itemIndex: item,
			description,
		});
		if (!caller.continueOnFail()) throw error;
		// `error` is never null here: by it n8n and the next nodes know the item for a failed one.
		return { json: { ...json, error: json.error ?? { message } }, error, pairedItem: { item } };
	});
}

/** What stands for a request that was refused, where the workflow goes on. */
export function refusedItem(error: Error, item: number): INodeExecutionData {
	const { description, httpCode } = error as Error & { description?: string; httpCode?: string };
	const told = { message: error.message, description: description ?? null, http_code: httpCode ?? null };
	return { json: { ok: false, error: told }, pairedItem: { item } };
}
