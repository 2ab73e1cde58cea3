// Every request to Spillway, and what its answers mean to Zapier.

/** Seconds, as all here. Zapier stops a step after 30, our own code included. */
const STEP = 28;
/** What Spillway answers at once it answers within this. */
const QUICK = 8;
/** How long the editor's test step waits for a result. */
const WAIT = 25;
/** A budget that is back tomorrow is nothing to wait for; a queue that is full is. */
const LONGEST_HOLD = 3600;
/** What is tried again when nothing better is told. */
const PAUSE = 30;

/** When each step began. */
const begun = new WeakMap();

/** What was answered only after an earlier request of the same step had been left without an answer. */
const sentAgain = new WeakSet();

/** Whether this may be the answer to a request that the step itself had sent already. */
export function wasSentAgain(response) {
  return sentAgain.has(response);
}

function secondsLeft(bundle) {
  if (!begun.has(bundle)) begun.set(bundle, Date.now());
  return STEP - (Date.now() - begun.get(bundle)) / 1000;
}

/** How long a request of this step may wait for a result, and still arrive. */
export function patience(bundle) {
  return Math.max(1, Math.min(WAIT, Math.floor(secondsLeft(bundle) - 2.5)));
}

/** The address of the service as a person types it: without `/v1` and slashes at its end. */
export function baseUrl(z, bundle) {
  const text = String(bundle.authData.baseUrl ?? "").trim();
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !["http:", "https:"].includes(url.protocol) || url.search || url.hash) {
    const detail = "The Spillway URL must be a web address such as https://spillway.example.com.";
    throw new z.errors.Error(detail, "BadUrl", 400);
  }
  if (url.username || url.password) {
    const detail = "The Spillway URL must not hold a password; the key has a field of its own.";
    throw new z.errors.Error(detail, "BadUrl", 400);
  }
  // Zapier reaches nothing on a loopback; `zapier-platform invoke` and the tests do.
  if (url.protocol === "http:" && !["127.0.0.1", "localhost"].includes(url.hostname)) {
    const detail =
      "The Spillway URL must begin with https: the API key and your texts cross the internet. " +
      "Put a reverse proxy with a certificate before Spillway.";
    throw new z.errors.Error(detail, "BadUrl", 400);
  }
  return (url.origin + url.pathname).replace(/\/+$/, "").replace(/\/v1$/, "");
}

/**
 * Asks Spillway. What was not answered at all is asked again when that is `safe`: a GET, or a
 * submit with its idempotency key. Answers the response, whatever its status.
 */
async function ask(z, bundle, { method = "GET", path, params, body, headers, safe, timeout = QUICK }) {
  const request = {
    url: baseUrl(z, bundle) + path,
    method,
    params,
    // Core would stumble over numbers that are kept as they are written.
    body: body && JSON.stringify(body),
    headers: {
      ...headers,
      Authorization: `Bearer ${bundle.authData.apiKey}`,
      Accept: "application/json",
      ...(body && { "Content-Type": "application/json" }),
    },
    redirect: "manual",
    skipThrowForStatus: true,
    // Core would throw away what Spillway says to do.
    throwForThrottlingEarly: false,
  };
  const most = safe ? 2 : 0;
  for (let again = most; ; again -= 1) {
    try {
      const seconds = Math.max(1, Math.min(timeout, secondsLeft(bundle)));
      const response = await z.request({ ...request, timeout: Math.round(seconds * 1000) });
      if (again < most) sentAgain.add(response);
      return response;
    } catch (error) {
      if (error.name !== "FetchError") throw error;
      const over = again === 0 || secondsLeft(bundle) < 2;
      if (over || error.code === "ENOTFOUND") throw unreachable(z, bundle, error, safe || method === "GET");
    }
  }
}

/** `safe` says whether Zapier may ask again what may have been done already. */
function unreachable(z, bundle, error, safe) {
  const host = new URL(baseUrl(z, bundle)).host;
  const timedOut = error.type === "request-timeout" || error.code === "ETIMEDOUT";
  const why =
    error.code === "ENOTFOUND"
      ? `There is no server named ${host}. Check the Spillway URL.`
      : timedOut
        ? `${host} did not answer in time.`
        : `${host} cannot be reached (${error.code ?? "no connection"}).`;
  const detail = `${why} Zapier's servers must be able to reach Spillway from the internet.`;
  const passes = ["ECONNREFUSED", "EAI_AGAIN"].includes(error.code) || (safe && (timedOut || error.code === "ECONNRESET"));
  return passes ? later(z, bundle, detail, PAUSE) : new z.errors.Error(detail, "Unreachable", 503);
}

/** A run is tried again by Zapier after so many seconds; a person at the editor is told. */
function later(z, bundle, detail, seconds) {
  const watched = bundle.meta?.isLoadingSample || bundle.meta?.isTestingAuth;
  if (watched || seconds > LONGEST_HOLD) return new z.errors.Error(detail, "TryLater", 429);
  return new z.errors.ThrottledError(detail, seconds);
}

/** The error an answer stands for. */
function failure(z, bundle, response) {
  const { status } = response;
  const problem = typeof response.data === "object" ? response.data : undefined;
  if (status >= 300 && status < 400) {
    const to = response.getHeader("location") ?? "another address";
    const detail = `The Spillway URL redirects to ${to.split("?")[0]}. Enter the address that answers itself.`;
    return new z.errors.Error(detail, "Redirected", status);
  }
  if (status === 401) {
    const detail = "Spillway does not know this API key. `spillway keys create zapier` makes a new one.";
    return new z.errors.ExpiredAuthError(detail);
  }
  const detail = problem?.detail ?? `Spillway answered ${status} without saying why.`;
  const told = Number.parseInt(response.getHeader("retry-after") ?? "", 10);
  if (status === 429 || status === 503) return later(z, bundle, detail, told || PAUSE);
  // A proxy's own words: Spillway behind it is being restarted.
  if ((status === 502 || status === 504) && !problem?.code) return later(z, bundle, detail, PAUSE);
  return new z.errors.Error(detail, problem?.code ?? "SpillwayError", status);
}

/** Asks Spillway and answers the response when it is a success; `but` are other statuses taken. */
export async function call(z, bundle, request, but = []) {
  const response = await ask(z, bundle, { ...request, safe: request.safe ?? !request.method });
  if (but.includes(response.status)) return response;
  if (response.status >= 300) throw failure(z, bundle, response);
  if (response.status !== 204 && typeof response.data !== "object") {
    const detail = "What answers at the Spillway URL is not Spillway. Check the address.";
    throw new z.errors.Error(detail, "NotSpillway", response.status);
  }
  return response;
}

/** Who the key belongs to, and where: tells a wrong address from a wrong key. */
export async function whoAmI(z, bundle) {
  const watched = { ...bundle, meta: { ...bundle.meta, isTestingAuth: true } };
  const response = await call(z, watched, { path: "/v1/me" }, [401, 404]);
  const spillway =
    response.status === 401 ? response.data?.code === "unauthorized" : response.data?.object === "caller";
  if (!spillway) {
    const detail = "What answers at the Spillway URL is not Spillway. Check the address.";
    throw new z.errors.Error(detail, "NotSpillway", 400);
  }
  if (response.status === 401) {
    const detail =
      "The API key is not valid at this Spillway. It begins with sw_; `spillway keys create zapier` makes one.";
    throw new z.errors.Error(detail, "AuthenticationError", 401);
  }
  return { ...response.data, host: new URL(baseUrl(z, bundle)).host };
}

/** The tasks this key may use. */
export async function listTasks(z, bundle) {
  const response = await call(z, bundle, { path: "/v1/tasks" });
  return response.data.data;
}

/** One task, or nothing when there is none of that name. */
export async function findTask(z, bundle, name) {
  if (!name) return undefined;
  return (await listTasks(z, bundle)).find((task) => task.name === name);
}
