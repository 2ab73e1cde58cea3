// A print of a text: to compare it by, or to send where it is too long or not plain.

import { createHash } from 'crypto';

export function sha256(text: string): string {
	return createHash('sha256').update(text).digest('hex');
}
