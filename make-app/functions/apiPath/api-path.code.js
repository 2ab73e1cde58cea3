// The path of a universal call. It stays at the connection's own address, which gets the API key.
function apiPath(url) {
  const path = String(url === undefined || url === null ? '' : url).trim();
  if (/^[a-z][a-z0-9+.-]*:/i.test(path) || path.startsWith('//') || path.includes('\\')) {
    throw new Error('Enter a path relative to the Spillway URL, such as /v1/limits, not a whole address.');
  }
  return path.replace(/^\/+/, '');
}
