// Standard Webhooks: whether a request comes from Spillway, and came just now.

import { createHmac, timingSafeEqual } from 'crypto';

export interface Signed {
	id: string;
	timestamp: string;
	signature: string;
	body: Buffer | string;
}

/** How far the sender's clock, or a replayed request, may be off. */
const TOLERANCE_S = 300;

function keyOf(secret: string): Buffer {
	return Buffer.from(secret.trim().replace(/^whsec_/, ''), 'base64');
}

function equal(a: Buffer, b: Buffer): boolean {
	return a.length === b.length && timingSafeEqual(a, b);
}

/** What is wrong with the request; nothing when one of the secrets has signed it in time. */
export function flawOf(request: Signed, secrets: string[], now: number): string | undefined {
	const { id, timestamp, signature, body } = request;
	if (!id || !timestamp || !signature) return 'It is not signed.';
	if (!/^\d{1,12}$/.test(timestamp)) return 'Its webhook-timestamp is not a number.';
	if (Math.abs(now / 1000 - Number(timestamp)) > TOLERANCE_S) {
		return 'Its webhook-timestamp is more than five minutes off.';
	}
	const given = signature
		.split(' ')
		.filter((part) => part.startsWith('v1,'))
		.map((part) => Buffer.from(part.slice(3), 'base64'));
	const signed = secrets.filter((secret) => keyOf(secret).length > 0).some((secret) => {
		const mac = createHmac('sha256', keyOf(secret)).update(`${id}.${timestamp}.`).update(body);
		const expected = mac.digest();
		return given.some((one) => equal(one, expected));
	});
	return signed ? undefined : 'No known secret has signed it.';
}
