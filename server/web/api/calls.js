// The calls of facelight's API that the page makes. Paths are relative to the page: a proxy may have put a prefix before it.

import { Store, keep, read } from "../store.js";

/** Where the page is, and the server's API with it. */
export const BASE = new URL(".", document.baseURI).href;

/** The API key: `value` as the user has entered it, `refused` is what the API said of the last call without a valid one. */
export const key = new Store({ value: read("key", ""), refused: "" });

export function setKey(value) {
  keep("key", value);
  key.set({ value, refused: "" });
}

/** What the API answered in place of a result: `status`, its own sentence, and `fields`, sentences by field. */
export class ApiError extends Error {
  constructor(status, message, fields = {}) {
    super(message);
    this.status = status;
    this.fields = fields;
  }
}

/** Call the API. Raises ApiError for what it refuses, TypeError if it cannot be reached. */
export async function call(path, options = {}) {
  const sent = key.value.value;
  const headers = { ...options.headers, ...(sent && { "x-api-key": sent }) };
  const response = await fetch(BASE + path, { ...options, headers });
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const message = body.error ?? `The server answered ${response.status}.`;
  if (response.status === 401) key.update({ refused: message });
  const fields = Object.fromEntries((body.detail ?? []).map((each) => [each.field, each.message]));
  throw new ApiError(response.status, message, fields);
}

const json = async (path, options) => (await call(path, options)).json();

const posted = (body) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const openapi = () => json("openapi.json", { signal: AbortSignal.timeout(10_000) });

/** State of server and models, also while nothing can be served (503). */
export const readiness = () => fetch(`${BASE}health/ready`).then((response) => response.json());

export const submit = (model, body) => json(`v2/${model}`, posted(body));

export const status = (id) => json(`v2/requests/${id}/status`);

export const result = (id) => json(`v2/requests/${id}`);

export const cancel = (id) => call(`v2/requests/${id}`, { method: "DELETE" });

/** Upload a picture; returns the URL by which requests name it, for an hour. */
export async function upload(file) {
  const dataUrl = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new ApiError(0, `${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
  return (await json("upload-asset", posted({ data_urls: [dataUrl] }))).urls[0];
}

/** Where the page itself gets a picture that this server stores; null for one elsewhere, which it may not load. */
export function stored(address) {
  const found = /\/files\/([^/?#]+)/.exec(address ?? "");
  return found && `files/${found[1]}`;
}

/** Seconds for which the server will keep a stored picture; null if it is gone. */
export async function keptFor(path) {
  // Not from the browser's cache: it keeps what the server has deleted, and the header of the first answer.
  const response = await fetch(BASE + path, { method: "HEAD", cache: "no-store" });
  const age = /max-age=(\d+)/.exec(response.headers.get("cache-control") ?? "");
  return response.ok && age ? Number(age[1]) : null;
}
