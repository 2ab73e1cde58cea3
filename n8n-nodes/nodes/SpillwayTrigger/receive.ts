// What the trigger makes of a request.

import type { IDataObject, IWebhookFunctions, IWebhookResponseData } from 'n8n-workflow';

import { flawOf } from '../shared/signature';
import { repeatOf, settled } from './repeats';
import { filtersOf, type Filters, type Remembered } from './subscription';

function refuse(
	context: IWebhookFunctions,
	status: number,
	title: string,
	detail: string,
): IWebhookResponseData {
	context.getResponseObject().status(status).json({ status, title, detail });
	return { noWebhookResponse: true };
}

/** An event has a type and data; with `"body": "bare"` the result comes alone. */
export function resultOf(body: IDataObject, webhookId: string): IDataObject {
	const enveloped = typeof body.type === 'string' && typeof body.data === 'object' && body.object === undefined;
	const data = ((enveloped ? body.data : body) ?? {}) as IDataObject;
	const event = enveloped ? body.type : `${String(data.object)}.${String(data.status)}`;
	return { event, webhook_id: webhookId, ...data };
}

/** Whether a job is one to start for. Spillway asks this of its events; callbacks come unasked. */
export function wanted({ statuses, tasks, workflows }: Filters, result: IDataObject): boolean {
	const within = (list: string[], value: unknown) => list.length === 0 || list.includes(String(value));
	const { object, status, task, workflow } = result;
	if (object !== 'job') return true;
	return within(statuses, status) && within(tasks, task) && within(workflows, workflow);
}

/** Whether one of the secrets that Spillway may sign with has signed the request. */
async function flaw(context: IWebhookFunctions, id: string): Promise<string | undefined> {
	const headers = context.getHeaderData();
	const { secret } = context.getWorkflowStaticData('node') as Remembered;
	const { signingSecret } = await context.getCredentials('spillwayApi');
	const signed = {
		id,
		timestamp: String(headers['webhook-timestamp'] ?? ''),
		signature: String(headers['webhook-signature'] ?? ''),
		body: context.getRequestObject().rawBody ?? '',
	};
	const known = [secret, signingSecret as string | undefined].filter((one) => !!one) as string[];
	return flawOf(signed, known, Date.now());
}

export async function received(this: IWebhookFunctions): Promise<IWebhookResponseData> {
	const id = String(this.getHeaderData()['webhook-id'] ?? '');
	const wrong = await flaw(this, id);
	if (wrong !== undefined) return refuse(this, 401, 'Not from Spillway', `The request was not taken. ${wrong}`);

	const answer = this.getResponseObject();
	// The test run of a workflow and its production run are apart.
	const key = [this.getWorkflow().id, this.getNode().id, this.getMode(), id].join(' ');
	const repeat = repeatOf(key, answer);
	if (repeat === 'running') return refuse(this, 409, 'In hand', 'This event is just being taken; try again.');
	if (repeat === 'taken') return { webhookResponse: { repeated: true } };
	answer.once('close', () => settled(key));
	const json = resultOf(this.getBodyData(), id);
	if (!wanted(filtersOf(this), json)) return { webhookResponse: { wanted: false } };
	return { workflowData: [[{ json }]] };
}
