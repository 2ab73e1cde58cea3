// What Spillway has posted to Zapier.

/** The body as it came. Zapier's own reading of it (`cleanedRequest`) stands in where there is none. */
export function postedBody(bundle) {
  const { content } = bundle.rawRequest ?? {};
  if (typeof content !== "string") return bundle.cleanedRequest ?? {};
  try {
    return JSON.parse(content) ?? {};
  } catch {
    return {};
  }
}

/** The job that a callback or an event tells of. */
export function postedJob(z, bundle) {
  const body = postedBody(bundle);
  const job = body.object === "job" ? body : body.data;
  if (job?.object === "job") return job;
  throw new z.errors.Error("What was posted to Zapier is not a result of Spillway.", "NotAResult", 400);
}
