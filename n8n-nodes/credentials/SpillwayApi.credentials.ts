import type {
	IAuthenticateGeneric,
	Icon,
	ICredentialTestRequest,
	ICredentialType,
	INodeProperties,
} from 'n8n-workflow';

export class SpillwayApi implements ICredentialType {
	name = 'spillwayApi';

	displayName = 'Spillway API';

	icon: Icon = { light: 'file:../icons/spillway.svg', dark: 'file:../icons/spillway.dark.svg' };

	documentationUrl =
		'https://github.com/spillway/spillway/blob/main/n8n-nodes/README.md#the-credential';

	properties: INodeProperties[] = [
		{
			displayName: 'Base URL',
			name: 'baseUrl',
			type: 'string',
			default: 'http://127.0.0.1:8080',
			placeholder: 'https://spillway.example.com',
			description: 'Where Spillway listens, as n8n reaches it',
			required: true,
		},
		{
			displayName: 'API Key',
			name: 'apiKey',
			type: 'string',
			typeOptions: { password: true },
			default: '',
			placeholder: 'sw_…',
			description: 'Made by <code>spillway keys create</code>',
			required: true,
		},
		{
			displayName: 'Signing Secret',
			name: 'signingSecret',
			type: 'string',
			typeOptions: { password: true },
			default: '',
			placeholder: 'whsec_…',
			description:
				"Only for jobs whose callback URL is a Spillway Trigger's address: what <code>spillway keys signing-secret</code> shows. Subscriptions have a secret of their own.",
		},
	];

	authenticate: IAuthenticateGeneric = {
		type: 'generic',
		properties: { headers: { Authorization: '=Bearer {{$credentials.apiKey}}' } },
	};

	test: ICredentialTestRequest = {
		request: {
			baseURL: '={{$credentials.baseUrl.trim().replace(/(\\/+v1)?\\/*$/, "")}}',
			url: '/v1/me',
		},
	};
}
