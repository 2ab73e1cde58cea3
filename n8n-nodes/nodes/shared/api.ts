// Requests to Spillway, and what the user reads when one is refused.

import type {
	IDataObject,
	IExecuteFunctions,
	IHookFunctions,
	IHttpRequestMethods,
	ILoadOptionsFunctions,
	JsonObject,
} from 'n8n-workflow';
import { NodeApiError, NodeOperationError, sleep } from 'n8n-workflow';

export type Caller = IExecuteFunctions | IHookFunctions | ILoadOptionsFunctions;

export interface Call {
	method?: IHttpRequestMethods;
	path: string;
	qs?: IDataObject;
	body?: IDataObject;
	headers?: IDataObject;
	/** Whether a second call does no harm, so that a lost answer may be asked for again; a POST needs a key for that. */
	repeatable?: boolean;
	/** Statuses beyond 2xx that are an answer. */
	accept?: number[];
	itemIndex?: number;
}

export interface Answer {
	status: number;
	body: IDataObject;
}

const TRIES = 4;
/** Longer than this is for the workflow's own retry, or for later. */
const MOST_PATIENCE_S = 60;
const REQUEST_TIMEOUT_MS = 100_000;

/** The address without trailing slashes and without the `/v1` that people paste with it. */
export function baseUrlOf(given: unknown): string {
	return String(given ?? '')
		.trim()
		.replace(/(\/+v1)?\/*$/, '');
}

/** JSON has no half of a character that takes two: such a half becomes the sign for an unknown one. */
export function wellFormed(body: IDataObject | undefined): IDataObject | undefined {
	if (body === undefined) return undefined;
	const text = JSON.stringify(body);
	// Whole characters stand as they are; only halves are written as escapes.
	const mended = text.replace(/\\(\\|ud[89a-f][0-9a-f]{2})/g, (as, what) => (what === '\\' ? as : '\ufffd'));
	return mended === text ? body : (JSON.parse(mended) as IDataObject);
}

/** Whether the trouble may be over the next time. */
export function passing(error: unknown): boolean {
	if (!(error instanceof NodeApiError)) return false;
	const status = Number(error.httpCode ?? 0);
	return status === 0 || status === 429 || status >= 500;
}

function repeatable({ method, headers, repeatable: told }: Call): boolean {
	return told ?? (method !== 'POST' || headers?.['Idempotency-Key'] !== undefined);
}

/**
 * Seconds to wait before the next try; none when it is not worth one. What a proxy answers in place of
 * Spillway, which may have done what was asked, is tried again only where that does no harm.
 */
export function patience(
	status: number,
	retryAfter: unknown,
	attempt: number,
	harmless: boolean,
): number | undefined {
	const busy = status === 429 || status === 503;
	const lost = status === 502 || status === 504;
	if (attempt >= TRIES || !(busy || (lost && harmless))) return undefined;
	const told = Number(retryAfter);
	const seconds = Number.isFinite(told) && told > 0 ? told : 2 ** (attempt - 1);
	return seconds <= MOST_PATIENCE_S ? seconds : undefined;
}

/** What a refusal says: the problem document's `detail`, else the status. */
export function reasonOf(status: number, body: IDataObject): { message: string; description: string } {
	const { detail, title, code } = body;
	if (typeof detail === 'string' && detail !== '') {
		return { message: detail, description: `${String(title ?? 'Refused')} (${String(code ?? status)})` };
	}
	return {
		message: `Spillway's address answered ${status} without saying why`,
		description: 'Check that the Base URL of the credential is that of Spillway and not of something before it.',
	};
}

export async function call(caller: Caller, asked: Call): Promise<Answer> {
	const request = { ...asked, body: wellFormed(asked.body) };
	for (let attempt = 1; ; attempt++) {
		const answer = await once(caller, request, attempt);
		if (answer === undefined) {
			await sleep(1000 * attempt);
			continue;
		}
		if (answer.status < 300 || request.accept?.includes(answer.status)) return answer;
		const seconds = patience(answer.status, answer.retryAfter, attempt, repeatable(request));
		if (seconds === undefined) throw refused(caller, request, answer);
		await sleep(seconds * 1000);
	}
}

/** One try; nothing when no answer came and another try is due. */
async function once(
	caller: Caller,
	request: Call,
	attempt: number,
): Promise<(Answer & { retryAfter: unknown }) | undefined> {
	const { baseUrl } = await caller.getCredentials('spillwayApi');
	if (!/^https?:\/\//i.test(baseUrlOf(baseUrl))) throw nowhere(caller, request, baseUrlOf(baseUrl));
	try {
		const response = (await caller.helpers.httpRequestWithAuthentication.call(caller, 'spillwayApi', {
			method: request.method ?? 'GET',
			baseURL: baseUrlOf(baseUrl),
			url: request.path,
			qs: request.qs,
			body: request.body,
			headers: { accept: 'application/json', ...request.headers },
			json: true,
			returnFullResponse: true,
			ignoreHttpStatusErrors: true,
			disableFollowRedirect: true,
			timeout: REQUEST_TIMEOUT_MS,
		})) as { statusCode: number; body: unknown; headers: IDataObject };
		return {
			status: response.statusCode,
			body: documentOf(response.body),
			retryAfter: response.headers['retry-after'],
		};
	} catch (error) {
		if (repeatable(request) && attempt < TRIES) return undefined;
		throw unreachable(caller, request, baseUrlOf(baseUrl), error as Error);
	}
}

/** Problem documents may come unparsed, as their type is not `application/json`. */
function documentOf(body: unknown): IDataObject {
	if (typeof body === 'string') {
		try {
			return documentOf(JSON.parse(body));
		} catch {
			return {};
		}
	}
	return typeof body === 'object' && body !== null ? (body as IDataObject) : {};
}

function refused(caller: Caller, request: Call, answer: Answer): NodeApiError {
	const error = new NodeApiError(caller.getNode(), answer.body as JsonObject, {
		...reasonOf(answer.status, answer.body),
		httpCode: String(answer.status),
		itemIndex: request.itemIndex,
	});
	error.context.code = answer.body.code;
	return error;
}

function nowhere(caller: Caller, { itemIndex }: Call, base: string): NodeOperationError {
	return new NodeOperationError(caller.getNode(), `The Base URL "${base}" must begin with http:// or https://`, {
		itemIndex,
		description: 'Write it so into the Spillway API credential, such as http://spillway:8080.',
	});
}

function unreachable(caller: Caller, request: Call, base: string, error: Error): NodeApiError {
	return new NodeApiError(caller.getNode(), { message: error.message } as JsonObject, {
		message: `Spillway cannot be reached at ${base}: ${error.message}`,
		description:
			'Check the Base URL of the credential as n8n reaches it: within Docker 127.0.0.1 is the container itself. With N8N_SSRF_PROTECTION_ENABLED, allow the address in N8N_SSRF_ALLOWED_IP_RANGES.',
		itemIndex: request.itemIndex,
	});
}

/** What a node may throw: ours as they are, told of which item, and what nobody expected. */
export function nodeError(caller: Caller, error: unknown, itemIndex?: number): Error {
	if (error instanceof NodeApiError || error instanceof NodeOperationError) {
		if (itemIndex !== undefined) error.context.itemIndex = itemIndex;
		return error;
	}
	return new NodeOperationError(caller.getNode(), error as Error, { itemIndex });
}
