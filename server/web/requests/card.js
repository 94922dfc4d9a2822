// One request: how far it is, what came of it, and what can be done with it.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { CodePanel } from "../code/panel.js";
import { linkTo } from "../link.js";
import { forget, isOpen, stop } from "./requests.js";
import { Result } from "./result.js";

export function Card({ request, model, onUse, onAgain, onRelight, needsKey }) {
  const [showsCode, setShowsCode] = useState(false);
  const isDone = request.state === "COMPLETED";
  const subject = request.pictures[model.subject];
  const body = isDone ? { ...request.body, seed: request.seed } : request.body;
  const isPortrait = isDone && model.slug !== "ic-light";
  return html`
    <article class="request ${request.state.toLowerCase()}" aria-label=${`${model.title}: ${request.body.prompt ?? ""}`.slice(0, 120)}>
      <header>
        <h3>${request.body.prompt || model.title}</h3>
        <p class="facts">${factsOf(request, model)} <${Kept} request=${request} /></p>
      </header>
      <${Progress} request=${request} />
      ${request.state === "FAILED" && html`<p class=${request.isCancelled ? "facts" : "error"}>${request.error}</p>`}
      ${request.state === "GONE" && html`<p>The server keeps pictures for an hour. These are gone; the settings are not.</p>`}
      ${request.trouble && html`<p class="warning">${request.trouble}</p>`}
      ${isDone && html`
        <${Result} request=${request} subject=${subject} isRelit=${model.slug === "ic-light"} onRelight=${isPortrait && onRelight} />
      `}
      <footer class="actions">
        ${isOpen(request)
          ? html`<button type="button" class="quiet" disabled=${!request.id} onClick=${() => stop(request)}>Cancel</button>`
          : html`
              ${subject && isDone && html`
                <button type="button" class="quiet" onClick=${() => onAgain(request)}>Same again, another seed</button>
              `}
              <button type="button" class="quiet" onClick=${() => onUse(request)}>Use these settings</button>
            `}
        <button type="button" class="quiet" aria-expanded=${showsCode ? "true" : "false"} onClick=${() => setShowsCode(!showsCode)}>
          Code
        </button>
        ${!isOpen(request) && html`
          <button type="button" class="quiet aside" aria-label="Remove this request from the list" onClick=${() => forget(request.number)}>
            Remove
          </button>
        `}
      </footer>
      ${showsCode && html`
        <${CodePanel} model=${model} body=${body} pictures=${request.pictures} needsKey=${needsKey} link=${linkTo(model, body)} />
      `}
    </article>
  `;
}

function factsOf({ body, seed, seconds, state }, model) {
  const words = [model.slug];
  if (body.light_source && body.light_source !== "None") words.push(body.light_source.toLowerCase());
  if (seed !== undefined) words.push(`seed ${seed}`);
  if (state === "COMPLETED" && seconds) words.push(`${seconds.toFixed(1)} s`);
  return words.join(" · ");
}

/** For how long the pictures are kept. */
function Kept({ request: { expires, state } }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 20_000);
    return () => clearInterval(timer);
  }, []);
  if (state !== "COMPLETED" || !expires) return null;
  const minutes = Math.round((expires - now) / 60_000);
  return html`<span>· ${minutes > 0 ? `kept for ${minutes} min` : "no longer kept"}</span>`;
}

function Progress({ request }) {
  const { state, position, step, total } = request;
  if (!isOpen(request)) return null;
  const text = {
    SENDING: "Sending the picture…",
    QUEUED: position ? `Waiting: number ${position} in the queue` : "Waiting…",
    PROCESSING: total ? (step < total ? `Step ${step} of ${total}` : "Finishing…") : "A worker has begun…",
  }[state];
  const isCounted = state === "PROCESSING" && step < total;
  return html`
    <div class="progress">
      <span>${text}</span>
      <progress aria-label="Progress" ...${isCounted ? { value: step, max: total } : {}}></progress>
    </div>
  `;
}
