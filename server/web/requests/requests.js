// The requests of this browser: sent, followed, cancelled, and remembered for as long as the server keeps them.

import { ApiError, cancel, keptFor, key, result, submit, upload } from "../api/calls.js";
import { follow, persist } from "../api/events.js";
import { Store, keep, readAll } from "../store.js";

/** Each request is kept under a name of its own, so that two tabs do not forget each other's. */
const KEPT = "request.";
const MOST = 50;
const FINAL = ["COMPLETED", "FAILED", "GONE"];

/*
 * A request is {number, model, body, pictures, at, id, state, …}: slug, fields of the body without pictures, pictures by
 * field, milliseconds since the epoch, the server's id. `state` is SENDING, the server's own, or GONE for one that the
 * server has no more. While it waits it has `position`, while it runs `step` and `total`; in the end `error`, or `seed`,
 * `images`, `seconds` and `expires`. `isCancelled` if that was asked for here. `trouble` says what keeps it from being followed.
 */
export const requests = new Store([]);

export const isOpen = (request) => !FINAL.includes(request.state);

const find = (number) => requests.value.find((each) => each.number === number);

function change(number, fields) {
  requests.set(requests.value.map((each) => (each.number === number ? { ...each, ...fields } : each)));
  if (find(number)?.id) keep(KEPT + number, find(number));
}

/** Those that this browser remembers; what was under way is followed again, also after another key was entered. */
export function recall() {
  const remembered = readAll(KEPT).sort((one, other) => other.number - one.number);
  for (const { number } of remembered.splice(MOST)) keep(KEPT + number, undefined);
  requests.set(remembered);
  for (const request of requests.value.filter(isOpen)) watch(request.number, request.id);
  for (const request of requests.value.filter((each) => each.state === "COMPLETED")) checkKept(request);
  key.listen(({ refused }) => {
    for (const { number, id } of refused ? [] : requests.value.filter((each) => each.stalled)) watch(number, id);
  });
}

/** Upload the pictures, send the request, and follow it. Raises ApiError or TypeError, and forgets it, if it is not accepted. */
export async function send(model, body, pictures) {
  const number = Date.now() + Math.random();
  requests.set([{ number, model, body, pictures, at: Date.now(), state: "SENDING" }, ...requests.value]);
  try {
    const sent = await uploaded(pictures);
    const addresses = Object.fromEntries(Object.entries(sent).map(([field, picture]) => [field, picture.address]));
    const { request_id: id } = await submit(model, { ...addresses, ...body });
    change(number, { id, pictures: sent, state: "QUEUED" });
    watch(number, id);
  } catch (error) {
    forget(number);
    throw error;
  }
}

async function uploaded(pictures) {
  const sent = {};
  for (const [field, { file, ...picture }] of Object.entries(pictures)) {
    try {
      sent[field] = file ? { ...picture, address: await upload(file), upload: true } : picture;
    } catch (error) {
      if (error.status !== 400) throw error;
      const message = Object.values(error.fields)[0] ?? error.message;
      throw new ApiError(400, `${field}: ${message}`, { [field]: message });
    }
  }
  return sent;
}

export function forget(number) {
  requests.set(requests.value.filter((each) => each.number !== number));
  keep(KEPT + number, undefined);
}

export function forgetEnded() {
  for (const { number } of requests.value.filter((each) => !isOpen(each))) forget(number);
}

/** Cancel a request; how it ended is told by following it. */
export async function stop(request) {
  try {
    await cancel(request.id);
    change(request.number, { isCancelled: true });
  } catch (error) {
    change(request.number, { trouble: `Not cancelled: ${error.message}` });
  }
}

async function watch(number, id) {
  change(number, { stalled: false });
  const tell = (told) => {
    const { status: state, queue_position: position, progress, error } = told;
    // COMPLETED is shown together with the pictures.
    const { step, total } = progress ?? {};
    if (state !== "COMPLETED") change(number, { state, position, step, total, error, trouble: undefined });
  };
  const lost = () => change(number, { trouble: "The server is not reached. Trying again…" });
  try {
    await follow(id, tell, lost);
    if (find(number)?.state !== "FAILED") await persist(() => fetchResult(number, id), lost);
  } catch (error) {
    // Not found may mean that it is another key's: with that it goes on.
    const isGone = error.status === 404;
    change(number, { stalled: true, ...(isGone ? { state: "GONE", trouble: undefined } : { trouble: error.message }) });
  }
}

async function fetchResult(number, id) {
  const { seed, images, metrics } = await result(id);
  const request = { state: "COMPLETED", seed, images, seconds: metrics.inference_time, trouble: undefined };
  change(number, request);
  await checkKept({ number, ...request });
}

/** Ask until when the server keeps the pictures: they may have been deleted while the page was closed. */
async function checkKept({ number, images }) {
  try {
    const seconds = await keptFor(`files/${images[0].file_name}`);
    change(number, seconds === null ? { state: "GONE" } : { expires: Date.now() + seconds * 1000 });
  } catch {
    // Not reached: the pictures may still be there.
  }
}
