// The head of the page: state of the server, and the API key.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { key, readiness, setKey } from "./api/calls.js";
import { Store, useStore } from "./store.js";

const EVERY_MS = 5000;

/** What `/health/ready` said last; `reached` is null before the first answer. */
export const server = new Store({ reached: null, models: {} });

/** Ask for the server's state, now and as long as somebody looks at the page. */
export function watchServer() {
  const ask = async () => {
    if (document.hidden) return;
    try {
      server.set({ reached: true, ...(await readiness()) });
    } catch {
      server.update({ reached: false });
    }
  };
  ask();
  document.addEventListener("visibilitychange", ask);
  return setInterval(ask, EVERY_MS);
}

export function Header({ needsKey }) {
  return html`
    <header class="bar">
      <h1><img src="web/icon.svg" alt="" width="28" height="28" /> facelight</h1>
      <nav aria-label="More"><a href="docs">API reference</a></nav>
      <${ServerState} />
      ${needsKey && html`<${KeyEntry} />`}
    </header>
  `;
}

function ServerState() {
  const state = useStore(server);
  const [light, text] = told(state);
  return html`
    <details class="server">
      <summary><span class="lamp ${light}" aria-hidden="true"></span> <span role="status">${text}</span></summary>
      <ul>
        ${Object.entries(state.models).map(
          ([slug, model]) => html`<li><code>${slug}</code> ${model.ready ? "ready" : model.detail}${servedBy(model)}</li>`,
        )}
      </ul>
    </details>
  `;
}

function told(state) {
  if (state.reached === null) return ["", "Asking the server…"];
  if (!state.reached) return ["bad", "Server not reached, trying again"];
  if (state.draining) return ["warn", "Server is being restarted"];
  if (state.paused) return ["warn", "Paused by the operator: requests wait"];
  if (!state.ready) return ["warn", state.workers ? "Models are loading" : "No worker is running"];
  const waiting = Object.values(state.models).reduce((sum, model) => sum + (model.waiting ?? 0), 0);
  const workers = state.workers === 1 ? "1 worker" : `${state.workers} workers`;
  return ["good", `Ready · ${workers} · ${waiting} waiting`];
}

function servedBy({ ready, weights, waiting, execution, fallback }) {
  if (!ready) return "";
  const words = [`${weights} weights`, execution, waiting && `${waiting} waiting`, fallback];
  return `: ${words.filter(Boolean).join(", ")}`;
}

function KeyEntry() {
  const entered = useStore(key);
  const { value, refused } = entered;
  const [typed, setTyped] = useState(value);
  const details = useRef();
  useEffect(() => {
    if (refused) details.current.open = true;
  }, [entered]); // each time anew: it may have been closed meanwhile
  const save = (event) => {
    event.preventDefault();
    setKey(typed.trim());
    details.current.open = false;
  };
  return html`
    <details class="key" ref=${details} open=${!value}>
      <summary>${value && !refused ? "API key entered" : "Enter your API key"}</summary>
      <form onSubmit=${save}>
        <label>
          API key
          <input
            type="password"
            autocomplete="off"
            value=${typed}
            aria-invalid=${refused ? "true" : undefined}
            aria-describedby="key-help"
            onInput=${(event) => setTyped(event.target.value)}
          />
        </label>
        <small id="key-help" role=${refused ? "alert" : undefined}>
          ${refused || "Kept in this browser only, and sent to this server only."}
        </small>
        <button type="submit">Use this key</button>
      </form>
    </details>
  `;
}
