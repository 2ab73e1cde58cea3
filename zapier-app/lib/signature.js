// Standard Webhooks: whether a POST came from the Spillway we subscribed at, unchanged.

import { createHmac, timingSafeEqual } from "node:crypto";

/** Seconds. Zapier may hold a POST for a while before it starts the Zap. */
const TOLERANCE = 24 * 3600;

/** A header of Zapier's raw request, which writes `webhook-id` as `Http-Webhook-Id`. */
function header(request, name) {
  const found = Object.entries(request?.headers ?? {}).find(
    ([key]) => key.toLowerCase().replace(/^http-/, "") === name,
  );
  return found?.[1];
}

/** Whether the request was signed with the secret (`whsec_…`) and is not an old one. */
export function isGenuine(request, secret, now = Date.now()) {
  const id = header(request, "webhook-id");
  const time = header(request, "webhook-timestamp");
  const signatures = header(request, "webhook-signature");
  const key = Buffer.from(String(secret ?? "").replace(/^whsec_/, ""), "base64");
  if (!id || !signatures || !/^\d+$/.test(time ?? "") || key.length === 0) return false;
  if (Math.abs(now / 1000 - Number(time)) > TOLERANCE) return false;
  const wanted = createHmac("sha256", key).update(`${id}.${time}.${request.content}`).digest();
  return signatures
    .split(" ")
    .filter((signature) => signature.startsWith("v1,"))
    .map((signature) => Buffer.from(signature.slice("v1,".length), "base64"))
    .some((given) => given.length === wanted.length && timingSafeEqual(given, wanted));
}
