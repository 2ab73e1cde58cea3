// What the editor shows of the Spillway node.

import type { INodeProperties } from 'n8n-workflow';

const SUBMITS = ['runAndWait', 'submit'];

const operation: INodeProperties = {
	displayName: 'Operation',
	name: 'operation',
	type: 'options',
	noDataExpression: true,
	options: [
		{
			name: 'Cancel',
			value: 'cancel',
			action: 'Cancel a job or group',
			description: 'Withdraw a job or group that has not ended',
		},
		{
			name: 'Get',
			value: 'get',
			action: 'Get a job or group',
			description: 'Get the result of a job or group, or how it stands',
		},
		{
			name: 'List',
			value: 'list',
			action: 'List jobs',
			description: 'List your jobs, the newest first',
		},
		{
			name: 'Replay',
			value: 'replay',
			action: 'Replay a job or group',
			description: 'Run a job again, or post a result to its callback URL again',
		},
		{
			name: 'Run a Task and Wait',
			value: 'runAndWait',
			action: 'Run a task and wait',
			description: 'Run a task for every input item and go on when all have their results',
		},
		{
			name: 'Submit',
			value: 'submit',
			action: 'Submit a task',
			description: 'Submit a task for every input item and go on at once',
		},
	],
	default: 'runAndWait',
};

const task: INodeProperties[] = [
	{
		displayName: 'Task Name or ID',
		name: 'task',
		type: 'options',
		typeOptions: { loadOptionsMethod: 'getTasks' },
		default: '',
		required: true,
		description:
			'The kind of work. Choose from the list, or specify an ID using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
		displayOptions: { show: { operation: SUBMITS } },
	},
	{
		displayName: 'Input As',
		name: 'inputMode',
		type: 'options',
		noDataExpression: true,
		options: [
			{
				name: 'Text',
				value: 'text',
				description: 'One text, such as the text to summarise',
			},
			{
				name: 'Fields',
				value: 'fields',
				description: "Form fields made from the task's input schema",
			},
			{
				name: 'JSON',
				value: 'json',
				description: 'An object that fits the task’s input schema',
			},
		],
		default: 'text',
		displayOptions: { show: { operation: SUBMITS } },
	},
	{
		displayName: 'Text',
		name: 'inputText',
		type: 'string',
		typeOptions: { rows: 4 },
		default: '',
		required: true,
		placeholder: 'e.g. {{ $json.text }}',
		description: 'What the task is to work on',
		displayOptions: { show: { operation: SUBMITS, inputMode: ['text'] } },
	},
	{
		displayName: 'Fields',
		name: 'inputFields',
		type: 'resourceMapper',
		noDataExpression: true,
		default: { mappingMode: 'defineBelow', value: null },
		required: true,
		typeOptions: {
			loadOptionsDependsOn: ['task'],
			resourceMapper: {
				resourceMapperMethod: 'getInputFields',
				mode: 'add',
				fieldWords: { singular: 'field', plural: 'fields' },
				addAllFields: true,
				supportAutoMap: true,
				noFieldsError: 'This task names no fields: choose JSON, or Map Automatically',
			},
		},
		displayOptions: { show: { operation: SUBMITS, inputMode: ['fields'] } },
	},
	{
		displayName: 'JSON',
		name: 'inputJson',
		type: 'json',
		typeOptions: { rows: 6 },
		default: '{\n  "text": ""\n}',
		required: true,
		description: "An object that fits the task's input schema, or a text in quotes",
		displayOptions: { show: { operation: SUBMITS, inputMode: ['json'] } },
	},
];

const waiting: INodeProperties[] = [
	{
		displayName: 'Wait By',
		name: 'waitBy',
		type: 'options',
		noDataExpression: true,
		options: [
			{
				name: 'Callback',
				value: 'callback',
				description:
					'Put the execution to sleep until Spillway calls. Holds no worker and survives a restart of n8n.',
			},
			{
				name: 'Polling',
				value: 'polling',
				description:
					'Ask again and again. For an n8n that Spillway cannot reach; always so as a tool of an AI Agent and in a sub-workflow.',
			},
		],
		default: 'callback',
		displayOptions: { show: { operation: ['runAndWait'] } },
	},
	{
		displayName: 'Send As',
		name: 'sendAs',
		type: 'options',
		noDataExpression: true,
		options: [
			{
				name: 'One Group',
				value: 'group',
				description: 'One request for all items, with one callback when the last has ended',
			},
			{
				name: 'One Job per Item',
				value: 'jobs',
				description: 'One request and one callback for each item',
			},
		],
		default: 'group',
		displayOptions: { show: { operation: ['submit'] } },
	},
	{
		displayName: 'Callback URL',
		name: 'callbackUrl',
		type: 'string',
		default: '',
		placeholder: 'e.g. https://example.com/webhook/results',
		description:
			'Where the result is posted. Leave it empty to fetch the result with Get, or to receive it with a Spillway Trigger that watches your jobs.',
		displayOptions: { show: { operation: ['submit'] } },
	},
];

const byId: INodeProperties[] = [
	{
		displayName: 'ID',
		name: 'id',
		type: 'string',
		default: '',
		required: true,
		placeholder: 'e.g. job_0_01K…',
		description: 'Of a job (<code>job_…</code>) or a group (<code>grp_…</code>)',
		displayOptions: { show: { operation: ['get', 'cancel', 'replay'] } },
	},
	{
		displayName: 'Wait (Seconds)',
		name: 'wait',
		type: 'number',
		typeOptions: { minValue: 0, maxValue: 60 },
		default: 0,
		description: "How long the answer may be held for the job's end; a group is not waited for",
		displayOptions: { show: { operation: ['get'] } },
	},
	{
		displayName: 'What',
		name: 'what',
		type: 'options',
		options: [
			{
				name: 'As It Stands',
				value: 'auto',
				description: 'Run again what did not succeed, post again what did',
			},
			{
				name: 'Post Again',
				value: 'post',
				description: 'Post the result to the callback URL again',
			},
			{
				name: 'Run Again',
				value: 'run',
				description: 'Run the job again in any case; this is paid for again',
			},
		],
		default: 'auto',
		description: 'What to do with a job; a group is posted again',
		displayOptions: { show: { operation: ['replay'] } },
	},
];

const listing: INodeProperties[] = [
	{
		displayName: 'Return All',
		name: 'returnAll',
		type: 'boolean',
		default: false,
		description: 'Whether to return all results or only up to a given limit',
		displayOptions: { show: { operation: ['list'] } },
	},
	{
		displayName: 'Limit',
		name: 'limit',
		type: 'number',
		typeOptions: { minValue: 1 },
		default: 50,
		description: 'Max number of results to return',
		displayOptions: { show: { operation: ['list'], returnAll: [false] } },
	},
	{
		displayName: 'Filters',
		name: 'filters',
		type: 'collection',
		placeholder: 'Add Filter',
		default: {},
		displayOptions: { show: { operation: ['list'] } },
		options: [
			{
				displayName: 'Status',
				name: 'status',
				type: 'options',
				options: [
					{ name: 'Cancelled', value: 'cancelled' },
					{ name: 'Expired', value: 'expired' },
					{ name: 'Failed', value: 'failed' },
					{ name: 'Queued', value: 'queued' },
					{ name: 'Running', value: 'running' },
					{ name: 'Succeeded', value: 'succeeded' },
				],
				default: 'failed',
			},
			{
				displayName: 'Task Name or ID',
				name: 'task',
				type: 'options',
				typeOptions: { loadOptionsMethod: 'getTasks' },
				default: '',
				description:
					'Choose from the list, or specify an ID using an <a href="https://docs.n8n.io/code/expressions/">expression</a>',
			},
			{
				displayName: 'Workflow',
				name: 'workflow',
				type: 'string',
				default: '',
				placeholder: 'e.g. lead-intake',
				description: 'Jobs that came from this workflow',
			},
		],
	},
];

const options: INodeProperties = {
	displayName: 'Options',
	name: 'options',
	type: 'collection',
	placeholder: 'Add Option',
	default: {},
	displayOptions: { show: { operation: SUBMITS } },
	options: [
		{
			displayName: 'Allow Fallbacks',
			name: 'allowFallbacks',
			type: 'boolean',
			default: true,
			description: 'Whether another provider may be asked when the first one cannot answer',
		},
		{
			displayName: 'Deliver By',
			name: 'deliverBy',
			type: 'dateTime',
			default: '',
			description:
				'After this time nobody wants the answer: jobs that have none then end as expired',
		},
		{
			displayName: 'Idempotency Key',
			name: 'idempotencyKey',
			type: 'string',
			default: '',
			description:
				"The same key with the same request gives the same jobs for 24 hours. A group takes the first item's. Of jobs, those that have the same key in one run get their item's number added. Default: made from the workflow, the execution, this node and its run, so that a retry never pays twice.",
			displayOptions: { show: { '/operation': ['submit'] } },
		},
		{
			displayName: 'Lane',
			name: 'lane',
			type: 'options',
			options: [
				{ name: 'Batch', value: 'batch', description: 'By the deadline is fine' },
				{ name: 'Interactive', value: 'interactive', description: 'Someone waits; goes first' },
				{ name: 'Standard', value: 'standard' },
			],
			default: 'standard',
		},
		{
			displayName: 'Max Cost (USD)',
			name: 'maxCostUsd',
			type: 'number',
			typeOptions: { minValue: 0, numberPrecision: 6 },
			default: 0.05,
			description: 'The most all attempts of one job together may cost',
		},
		{
			displayName: 'Metadata',
			name: 'metadata',
			type: 'json',
			default: '{}',
			description: 'Given back unchanged with each result',
		},
		{
			displayName: 'Never Providers Names or IDs',
			name: 'providerIgnore',
			type: 'multiOptions',
			typeOptions: { loadOptionsMethod: 'getProviders' },
			default: [],
			description:
				'These are not asked. Choose from the list, or specify IDs using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
		},
		{
			displayName: 'Only Providers Names or IDs',
			name: 'providerOnly',
			type: 'multiOptions',
			typeOptions: { loadOptionsMethod: 'getProviders' },
			default: [],
			description:
				'No other is asked. Choose from the list, or specify IDs using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
		},
		{
			displayName: 'Poll Every (Seconds)',
			name: 'pollInterval',
			type: 'number',
			typeOptions: { minValue: 1, maxValue: 60 },
			default: 2,
			description: 'When waiting by polling',
			displayOptions: { show: { '/operation': ['runAndWait'] } },
		},
		{
			displayName: 'Prefer Providers Names or IDs',
			name: 'providerOrder',
			type: 'multiOptions',
			typeOptions: { loadOptionsMethod: 'getProviders' },
			default: [],
			description:
				'Asked first, in this order. Choose from the list, or specify IDs using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
		},
		{
			displayName: 'Session',
			name: 'session',
			type: 'string',
			default: '',
			description: 'Jobs of one conversation stay with the account that has its prompt cached',
		},
		{
			displayName: 'Sort Providers By',
			name: 'providerSort',
			type: 'options',
			options: [
				{ name: 'Latency', value: 'latency' },
				{ name: 'Price', value: 'price' },
				{ name: 'Throughput', value: 'throughput' },
			],
			default: 'price',
		},
		{
			displayName: 'Wait Limit (Minutes)',
			name: 'waitLimit',
			type: 'number',
			typeOptions: { minValue: 1 },
			default: 4320,
			description:
				'After this time the node fails. The jobs go on: fetch them with Get. Default: three days, as long as Spillway keeps results.',
			displayOptions: { show: { '/operation': ['runAndWait'] } },
		},
		{
			displayName: 'Workflow',
			name: 'workflow',
			type: 'string',
			default: '',
			placeholder: 'e.g. lead-intake',
			description:
				"Workflows share the providers' rate evenly. Default: this workflow's ID.",
		},
	],
};

export const properties: INodeProperties[] = [
	operation,
	...task,
	...waiting,
	...byId,
	...listing,
	options,
];
