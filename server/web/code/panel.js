// The code of a request; its modules are loaded when somebody looks.

import { html, useEffect, useState } from "../vendor/htm-preact.js";

export function CodePanel(props) {
  const [Code, setCode] = useState(null);
  useEffect(() => {
    import("./code.js").then(
      (module) => setCode(() => module.Code),
      () => setCode(() => NotLoaded),
    );
  }, []);
  return Code && html`<${Code} ...${props} />`;
}

function NotLoaded() {
  return html`<p class="warning">The server is not reached.</p>`;
}
