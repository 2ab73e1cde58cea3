// What the trigger makes of a request.

import type { IDataObject, IWebhookFunctions } from 'n8n-workflow';

import { flawOf } from '../shared/signature';
import type { Remembered } from './subscription';

interface Received {
	refusal?: { status: number; title: string; detail: string };
	results: IDataObject[];
}

/** How many `webhook-id`s are kept to know a repeat by. */
const KEPT = 500;

/** The results of one event: a job's, or a group's jobs'. */
function resultsOf(body: IDataObject, id: string): IDataObject[] {
	// An event has a type and data; with `"body": "bare"` the result comes alone.
	const enveloped = typeof body.type === 'string' && typeof body.data === 'object' && body.object === undefined;
	const data = (enveloped ? body.data : body) as IDataObject;
	const event = enveloped ? body.type : `${String(data.object)}.${String(data.status)}`;
	return [{ event, webhook_id: id, ...data }];
}

export async function received(this: IWebhookFunctions): Promise<Received> {
	const headers = this.getHeaderData();
	const header = (name: string) => String(headers[name] ?? '');
	const memory = this.getWorkflowStaticData('node') as Remembered;
	const { signingSecret } = await this.getCredentials('spillwayApi');
	const secrets = [memory.secret, signingSecret as string | undefined];
	const id = header('webhook-id');
	const request = this.getRequestObject();
	const signed = {
		id,
		timestamp: header('webhook-timestamp'),
		signature: header('webhook-signature'),
		body: request.rawBody ?? '',
	};
	const known = secrets.filter((secret): secret is string => Boolean(secret));
	const flaw = flawOf(signed, known, Date.now());
	if (flaw !== undefined) {
		const detail = `The request was not taken. ${flaw}`;
		return { refusal: { status: 401, title: 'Not from Spillway', detail }, results: [] };
	}
	const seen = memory.seen ?? [];
	if (seen.includes(id)) return { results: [] };
	memory.seen = [...seen, id].slice(-KEPT);
	return { results: resultsOf(this.getBodyData(), id) };
}
