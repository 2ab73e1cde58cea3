// Events that came before. They are known by what this process answered them: static data would be
// written back by every execution as it was at that one's start, over a newer subscription's secret.

/** Part of an HTTP answer. */
export interface Answered {
	writableEnded: boolean;
	statusCode: number;
}

/** More than arrive while one is tried again. */
const KEPT = 2000;

const answers = new Map<string, Answered>();

export type Repeat = 'new' | 'taken' | 'running';

/** Whether an event is a repeat, and its answer to know the next repeat by. */
export function repeatOf(key: string, answer: Answered): Repeat {
	const earlier = answers.get(key);
	if (earlier !== undefined && !earlier.writableEnded) return 'running';
	if (earlier !== undefined && earlier.statusCode < 300) return 'taken';
	// One that failed is taken anew.
	answers.delete(key);
	answers.set(key, answer);
	for (const oldest of answers.keys()) {
		if (answers.size <= KEPT) break;
		answers.delete(oldest);
	}
	return 'new';
}

/** Keeps what an answer came to instead of the answer with its connection. */
export function settled(key: string): void {
	const answer = answers.get(key);
	if (answer?.writableEnded) answers.set(key, { writableEnded: true, statusCode: answer.statusCode });
}
