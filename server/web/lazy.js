// Components whose modules are loaded when they are first drawn: the form can be used before.

import { html, useEffect, useState } from "./vendor/htm-preact.js";

const RETRY_MS = 2000;

/** The component that `load` promises. Draws nothing until it is there, and tries again while it cannot be had. */
export function lazy(load) {
  let loaded = null;
  return function Lazy(props) {
    const [Component, setComponent] = useState(() => loaded);
    useEffect(() => {
      let timer;
      const show = (component) => setComponent(() => (loaded = component));
      const fail = () => {
        setComponent(() => NotLoaded);
        timer = setTimeout(attempt, RETRY_MS);
      };
      const attempt = () => load().then(show, fail);
      if (!loaded) attempt();
      return () => clearTimeout(timer);
    }, []);
    return Component && html`<${Component} ...${props} />`;
  };
}

function NotLoaded() {
  return html`<p class="warning">The server is not reached. Trying again…</p>`;
}
