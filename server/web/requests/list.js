// The requests of this browser, the newest first.

import { html, useState } from "../vendor/htm-preact.js";
import { lazy } from "../lazy.js";
import { useStore } from "../store.js";
import { forgetEnded, isOpen, requests } from "./requests.js";

const Card = lazy(() => import("./card.js").then((module) => module.Card));

export function Requests({ models, asksForKey, onUse, onAgain, onRelight }) {
  const all = useStore(requests);
  const shown = all.flatMap((request) => {
    const model = models.find((each) => each.slug === request.model);
    return model ? [{ request, model }] : [];
  });
  return html`
    <section class="right" aria-label="Pictures">
      <div class="heading">
        <h2>Pictures</h2>
        ${all.some((each) => !isOpen(each)) && html`<${Clear} />`}
      </div>
      <p role="status" class="announced">${announcement(all[0])}</p>
      ${shown.length === 0 && html`
        <div class="empty">
          <p><strong>Your pictures appear here.</strong></p>
          <p>Drop a photo, or use the sample, say what light or style you want, and press the button.</p>
          <p>They are kept for an hour; this list is remembered by this browser alone.</p>
        </div>
      `}
      ${shown.map(
        ({ request, model }) => html`
          <${Card} key=${request.number} request=${request} model=${model} needsKey=${asksForKey}
            onUse=${onUse} onAgain=${onAgain} onRelight=${onRelight} />
        `,
      )}
    </section>
  `;
}

/** Clears the list at the second press: there is no way back. */
function Clear() {
  const [asks, setAsks] = useState(false);
  return html`
    <button type="button" class="quiet" onBlur=${() => setAsks(false)} onClick=${asks ? forgetEnded : () => setAsks(true)}>
      ${asks ? "Forget all of them?" : "Clear the list"}
    </button>
  `;
}

/** What a screen reader is told of the newest request: its states, not its steps. */
function announcement(request) {
  if (!request) return "";
  const told = {
    SENDING: "The request is being sent.",
    QUEUED: "The request waits.",
    PROCESSING: "A worker is at it.",
    COMPLETED: "The picture is ready.",
    FAILED: `The request has failed: ${request.error}`,
  };
  return told[request.state] ?? "";
}
