import type {
	IExecuteFunctions,
	INodeExecutionData,
	INodeType,
	INodeTypeDescription,
	IWebhookFunctions,
	IWebhookResponseData,
} from 'n8n-workflow';
import { NodeConnectionTypes, NodeOperationError } from 'n8n-workflow';

import { getInputFields, getProviders, getTasks } from '../shared/options';
import { cancel, get, list, replay, submit } from './operations';
import { properties } from './properties';
import { runAndWait, woken } from './run';

const operations: Record<string, (this: IExecuteFunctions) => Promise<INodeExecutionData[][]>> = {
	cancel,
	get,
	list,
	replay,
	runAndWait,
	submit,
};

export class Spillway implements INodeType {
	description: INodeTypeDescription = {
		displayName: 'Spillway',
		name: 'spillway',
		icon: { light: 'file:../../icons/spillway.svg', dark: 'file:../../icons/spillway.dark.svg' },
		group: ['transform'],
		version: [1],
		subtitle:
			'={{ $parameter["operation"] === "runAndWait" ? "run and wait: " + ($parameter["task"] || "?") : $parameter["operation"] }}',
		description: "Run LLM tasks at the rate the providers' limits allow",
		defaults: { name: 'Spillway' },
		inputs: [NodeConnectionTypes.Main],
		outputs: [NodeConnectionTypes.Main],
		usableAsTool: true,
		credentials: [{ name: 'spillwayApi', required: true }],
		// Only there while an execution sleeps in this node: its resume URL.
		webhooks: [
			{
				name: 'default',
				httpMethod: 'POST',
				responseMode: 'onReceived',
				responseData: 'noData',
				path: '',
				restartWebhook: true,
			},
		],
		properties,
	};

	methods = {
		loadOptions: { getTasks, getProviders },
		resourceMapping: { getInputFields },
	};

	// Nothing is registered anywhere: the resume URL goes along with each group.
	webhookMethods = {
		default: {
			async checkExists(): Promise<boolean> {
				return true;
			},
			async create(): Promise<boolean> {
				return true;
			},
			async delete(): Promise<boolean> {
				return true;
			},
		},
	};

	async webhook(this: IWebhookFunctions): Promise<IWebhookResponseData> {
		return await woken.call(this);
	}

	async execute(this: IExecuteFunctions): Promise<INodeExecutionData[][]> {
		const chosen = this.getNodeParameter('operation', 0) as string;
		const operation = operations[chosen];
		if (operation === undefined) {
			throw new NodeOperationError(this.getNode(), `There is no operation "${chosen}"`);
		}
		return await operation.call(this);
	}
}
