// Whether an execution can be put to sleep here, and the sleeping node's entry in its data.

import type { IDataObject, IExecuteData, IExecuteFunctions, IWebhookFunctions } from 'n8n-workflow';

/** Part of what n8n's contexts have beyond their published types, since version 1. */
interface Inner {
	runExecutionData?: {
		executionData?: { nodeExecutionStack?: IExecuteData[]; contextData?: Record<string, IDataObject> };
	};
}

function dataOf(context: IExecuteFunctions | IWebhookFunctions) {
	return (context as unknown as Inner).runExecutionData?.executionData;
}

function stackOf(context: IExecuteFunctions | IWebhookFunctions): IExecuteData[] | undefined {
	const stack = dataOf(context)?.nodeExecutionStack;
	return Array.isArray(stack) ? stack : undefined;
}

/** Where a node cannot sleep, or could not be woken rightly, it asks instead. */
export function mustPoll(caller: IExecuteFunctions): boolean {
	// Of several sub-workflows that sleep at once, n8n takes back the results of one only.
	const asPart = caller.getMode() === 'integrated';
	const asTool = caller.isToolExecution?.() || caller.getNode().type.endsWith('Tool');
	const chosen = caller.getNodeParameter('waitBy', 0, 'callback') === 'polling';
	return chosen || asPart || asTool || stackOf(caller) === undefined;
}

export function entryOf(context: IWebhookFunctions): IExecuteData | undefined {
	const entry = stackOf(context)?.[0];
	return entry?.node.name === context.getNode().name ? entry : undefined;
}

/** What the sleeping node has put into its `getContext('node')`, which a webhook's context does not have. */
export function contextOf(context: IWebhookFunctions): IDataObject {
	return dataOf(context)?.contextData?.[`node:${context.getNode().name}`] ?? {};
}
