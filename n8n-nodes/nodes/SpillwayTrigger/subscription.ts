// The trigger's subscription at Spillway: made when the workflow is activated, ended with it.

import type { IDataObject, IHookFunctions, IWebhookFunctions } from 'n8n-workflow';

import { call, wellFormed } from '../shared/api';
import { sha256 } from '../shared/hash';

/** What the trigger remembers in the workflow's static data. */
export interface Remembered {
	subscription?: string;
	secret?: string;
	/** The filters and the address it was made with. */
	wish?: string;
	/** The n8n, its address and the workflow that it belongs to: a copied workflow brings all this along. */
	owner?: string;
}

/** What the workflow is to start for; an empty list is all. */
export type Filters = Record<'statuses' | 'tasks' | 'workflows', string[]>;

export function filtersOf(context: IHookFunctions | IWebhookFunctions): Filters {
	const list = (name: string) => {
		const value = context.getNodeParameter(name, '');
		const all = Array.isArray(value) ? value : String(value ?? '').split(',');
		return all.map((one) => String(one).trim()).filter(Boolean);
	};
	return { statuses: list('statuses'), tasks: list('tasks'), workflows: list('workflows') };
}

function wishOf(hook: IHookFunctions): IDataObject {
	const { id, name } = hook.getWorkflow();
	const url = hook.getNodeWebhookUrl('default') as string;
	return { url, name: `n8n: ${name ?? id}`, ...filtersOf(hook) };
}

function ownerOf(hook: IHookFunctions): string {
	const { origin } = new URL(hook.getNodeWebhookUrl('default') as string);
	return [hook.getInstanceId(), origin, hook.getWorkflow().id].join(' ');
}

function memory(hook: IHookFunctions): Remembered {
	return hook.getWorkflowStaticData('node') as Remembered;
}

export async function subscribed(this: IHookFunctions): Promise<boolean> {
	const kept = memory(this);
	if (!kept.subscription || !kept.secret || kept.owner !== ownerOf(this)) return false;
	const path = `/v1/subscriptions/${kept.subscription}`;
	const { status } = await call(this, { path, accept: [404] });
	if (status === 404) return false;
	if (kept.wish === JSON.stringify(wishOf(this))) return true;
	// Other filters or another address since: a new one takes its place.
	await unsubscribe.call(this);
	return false;
}

export async function subscribe(this: IHookFunctions): Promise<boolean> {
	const wish = wishOf(this);
	// Asked again after a lost answer, it is the same subscription: none is left that nobody ends.
	const asked = wellFormed(wish);
	const print = sha256(JSON.stringify([ownerOf(this), this.getNode().id, asked]));
	const headers = { 'Idempotency-Key': `n8n-${print}` };
	const { body } = await call(this, { method: 'POST', path: '/v1/subscriptions', body: asked, headers });
	const kept = memory(this);
	kept.subscription = body.id as string;
	kept.secret = body.secret as string;
	kept.wish = JSON.stringify(wish);
	kept.owner = ownerOf(this);
	return true;
}

export async function unsubscribe(this: IHookFunctions): Promise<boolean> {
	const kept = memory(this);
	// Another's is only forgotten: it still starts the workflow that this one was copied from.
	if (kept.subscription && kept.owner === ownerOf(this)) {
		const path = `/v1/subscriptions/${kept.subscription}`;
		await call(this, { method: 'DELETE', path, accept: [404] });
	}
	delete kept.subscription;
	delete kept.secret;
	delete kept.wish;
	delete kept.owner;
	return true;
}
