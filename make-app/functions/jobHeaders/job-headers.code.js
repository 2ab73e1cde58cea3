// How long to wait, and what makes a repetition known.
function jobHeaders(parameters) {
  const headers = {};
  if (parameters.delivery === 'wait') {
    // Make ends a module after 40 seconds; the answer needs time to arrive.
    const seconds = Math.min(Math.max(Math.floor(Number(parameters.waitSeconds)) || 25, 1), 30);
    headers.prefer = `wait=${seconds}`;
  }
  const key = String(parameters.idempotencyKey || '').trim();
  if (key !== '') {
    // Spillway takes 1 to 255 visible ASCII characters; a mapped title may have others.
    const plain = /^[\x21-\x7e]{1,255}$/.test(key) && !/["\\]/.test(key);
    headers['idempotency-key'] = plain ? key : iml.sha256(key);
  }
  return headers;
}
