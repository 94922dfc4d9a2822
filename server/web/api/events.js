// Following a request: its stream of events, or its status where too many streams are open already.

import { ApiError, call, status } from "./calls.js";

/** A browser has six connections to a server, for all its tabs together: streams may use half of them. */
const MOST_STREAMS = 3;
const POLL_MS = 2000;
/** The server sends something every 15 s; a stream that is silent for longer is dead. */
const SILENCE_MS = 40_000;
const PAUSES_MS = [500, 1000, 2000, 4000, 8000];
let isStreaming = false;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const isFinal = (state) => state?.status === "COMPLETED" || state?.status === "FAILED";

/**
 * Call `attempt` until it succeeds, through outages and restarts of the server; returns what it does.
 *
 * `lost` is called while the server cannot be reached. Raises ApiError if it refuses: an unknown key, or a request that
 * it does not have any more.
 */
export async function persist(attempt, lost) {
  for (let failures = 0; ; failures++) {
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof ApiError && error.status < 500) throw error;
      lost();
      await pause(PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)]);
    }
  }
}

/** Call `tell` with every state of a request up to the final one; `lost` and errors are those of `persist`. */
export async function follow(id, tell, lost) {
  let state;
  do state = await persist(() => next(id, tell), lost);
  while (!isFinal(state));
}

/** The latest state of a request, by a stream if one is left, counted over all tabs. */
function next(id, tell, slot = 0) {
  // Without TLS browsers offer no locks: each tab has one stream then.
  if (!navigator.locks) return isStreaming ? poll(id, tell) : stream(id, tell);
  if (slot === MOST_STREAMS) return poll(id, tell);
  return navigator.locks.request(`facelight stream ${slot}`, { ifAvailable: true }, (lock) =>
    lock ? stream(id, tell) : next(id, tell, slot + 1),
  );
}

async function poll(id, tell) {
  let state;
  try {
    state = await status(id);
  } catch (error) {
    if (error.status !== 422) throw error; // of a request that has failed; its sentence is the error's
    state = { status: "FAILED", error: error.message };
  }
  tell(state);
  if (!isFinal(state)) await pause(POLL_MS);
  return state;
}

async function stream(id, tell) {
  const silence = new AbortController();
  let timer, last;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_MS);
  };
  isStreaming = true;
  try {
    alive();
    const response = await call(`v2/requests/${id}/events`, { signal: silence.signal });
    for await (const data of messages(response, alive)) tell((last = JSON.parse(data)));
  } finally {
    clearTimeout(timer);
    isStreaming = false;
  }
  if (!isFinal(last)) await pause(PAUSES_MS[0]); // its gateway ends, or a proxy has cut it off
  return last;
}

/** Data of the events of a response; `alive` is called for everything that arrives, comments too. */
async function* messages(response, alive) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    alive();
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:"));
      if (data.length) yield data.map((line) => line.slice(5).trim()).join("\n");
    }
  }
}
