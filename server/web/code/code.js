// The code for a request, to be copied, and a link to its settings.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { keep, read } from "../store.js";
import { LANGUAGES, VERSIONS, codeFor } from "./snippets.js";

export function Code({ model, body, pictures, needsKey, link }) {
  const [language, setLanguage] = useState(read("language", "curl"));
  const [version, setVersion] = useState(read("version", "v2"));
  const given = { ...pictures };
  for (const { name, kind, required } of model.fields) {
    if (kind === "picture" && required) given[name] ??= { name: "photo.jpg", upload: true };
  }
  const initialFormat = model.fields.find((field) => field.name === "output_format")?.initial ?? "png";
  const request = { slug: model.slug, version, body, pictures: given, needsKey, initialFormat };
  const code = codeFor(language, request);
  const panel = useRef();
  useEffect(() => panel.current.scrollIntoView({ block: "nearest" }), []); // it may have opened below the window
  const choose = (set, name) => (value) => {
    set(value);
    keep(name, value);
  };
  return html`
    <fieldset class="code" ref=${panel} aria-label="Code for this request">
      <div class="choices">
        <${Segments} label="Language" options=${Object.entries(LANGUAGES).map(([name, { title }]) => [name, title])}
          chosen=${language} onChoose=${choose(setLanguage, "language")} />
        <${Segments} label="Version of the API" options=${Object.entries(VERSIONS)}
          chosen=${version} onChoose=${choose(setVersion, "version")} />
      </div>
      <pre tabindex="0" aria-label="Code"><code>${code}</code></pre>
      <div class="actions">
        <${Copy} text=${code} label="Copy code" />
        <${Copy} text=${link} label="Copy a link to these settings" />
      </div>
      <small>
        ${needsKey && html`The key is read from the environment variable <code>FACELIGHT_API_KEY</code>. `}
        The link holds neither key nor picture.
      </small>
    </fieldset>
  `;
}

function Segments({ label, options, chosen, onChoose }) {
  const group = useRef(`code-${Math.random()}`);
  return html`
    <fieldset class="segments" aria-label=${label}>
      ${options.map(
        ([name, title]) => html`
          <label>
            <input type="radio" name=${group.current} checked=${name === chosen} onChange=${() => onChoose(name)} />
            <span>${title}</span>
          </label>
        `,
      )}
    </fieldset>
  `;
}

function Copy({ text, label }) {
  const [said, setSaid] = useState("");
  const box = useRef();
  const copy = async () => {
    setSaid((await copied(text, box.current)) ? "Copied" : "Select it and copy it by hand");
    setTimeout(() => setSaid(""), 2500);
  };
  return html`
    <span ref=${box}>
      <button type="button" class="quiet" onClick=${copy}>${label}</button>
      <span role="status" class="said">${said}</span>
    </span>
  `;
}

/** Copy a text; without TLS browsers offer no clipboard but the one of a selected text field. */
async function copied(text, parent) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = parent.appendChild(Object.assign(document.createElement("textarea"), { value: text }));
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
