import type {
	IHookFunctions,
	INodeType,
	INodeTypeDescription,
	IWebhookFunctions,
	IWebhookResponseData,
} from 'n8n-workflow';
import { NodeConnectionTypes } from 'n8n-workflow';

import { getTasks } from '../shared/options';
import { received } from './receive';
import { subscribe, subscribed, unsubscribe } from './subscription';

export class SpillwayTrigger implements INodeType {
	description: INodeTypeDescription = {
		displayName: 'Spillway Trigger',
		name: 'spillwayTrigger',
		icon: { light: 'file:../../icons/spillway.svg', dark: 'file:../../icons/spillway.dark.svg' },
		group: ['trigger'],
		version: [1],
		subtitle: '={{ $parameter["statuses"].join(", ") }}',
		// n8n's node panel shows the node and its trigger as one, under this description.
		description: "Run LLM tasks within the providers' limits; start workflows when jobs have ended",
		defaults: { name: 'Spillway Trigger' },
		inputs: [],
		outputs: [NodeConnectionTypes.Main],
		credentials: [{ name: 'spillwayApi', required: true }],
		webhooks: [
			{
				name: 'default',
				httpMethod: 'POST',
				responseMode: 'onReceived',
				responseData: 'noData',
				path: 'spillway',
			},
		],
		properties: [
			{
				displayName: 'Statuses',
				name: 'statuses',
				type: 'multiOptions',
				options: [
					{ name: 'Cancelled', value: 'cancelled' },
					{ name: 'Expired', value: 'expired', description: 'Not delivered by the time given' },
					{ name: 'Failed', value: 'failed' },
					{ name: 'Succeeded', value: 'succeeded' },
				],
				default: ['succeeded', 'failed', 'cancelled', 'expired'],
				description: 'With which end of a job the workflow starts',
			},
			{
				displayName: 'Task Names or IDs',
				name: 'tasks',
				type: 'multiOptions',
				typeOptions: { loadOptionsMethod: 'getTasks' },
				default: [],
				description:
					'Only these tasks; empty for all. Choose from the list, or specify IDs using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
			},
			{
				displayName: 'Workflows',
				name: 'workflows',
				type: 'string',
				default: '',
				placeholder: 'e.g. lead-intake, support',
				description:
					"Only jobs of these workflows, with commas between; empty for all. The Spillway node names an n8n workflow's jobs by its ID.",
			},
		],
	};

	methods = { loadOptions: { getTasks } };

	webhookMethods = {
		default: {
			async checkExists(this: IHookFunctions): Promise<boolean> {
				return await subscribed.call(this);
			},
			async create(this: IHookFunctions): Promise<boolean> {
				return await subscribe.call(this);
			},
			async delete(this: IHookFunctions): Promise<boolean> {
				return await unsubscribe.call(this);
			},
		},
	};

	async webhook(this: IWebhookFunctions): Promise<IWebhookResponseData> {
		return await received.call(this);
	}
}
