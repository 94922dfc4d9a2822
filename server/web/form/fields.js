// One input for each kind of parameter.

import { html } from "../vendor/htm-preact.js";

/** The input of a field that is no picture, with what the API said is wrong with it. */
export function Field({ field, value, onChange, error, hint }) {
  const Input = { range: Range, choice: Choice, list: List, text: Text, number: Single, line: Single }[field.kind];
  return html`<${Input} ...${{ field, value, onChange, error, hint, described: describedBy(field, error) }} />`;
}

const idOf = (field) => `field-${field.name}`;
const describedBy = (field, error) => `${idOf(field)}-help${error ? ` ${idOf(field)}-error` : ""}`;
const asNumber = (text) => (text === "" ? undefined : Number(text));

function Name({ field }) {
  return html`${field.title} <code>${field.name}</code>${field.extension && html` <em class="badge">extension</em>`}`;
}

/** A parameter's description; what stands between backticks is code. */
export function Description({ text }) {
  return text.split("`").map((part, index) => (index % 2 ? html`<code>${part}</code>` : part));
}

function Notes({ field, error }) {
  return html`
    <small id=${`${idOf(field)}-help`}>
      ${field.kind === "range" && `${field.minimum} to ${field.maximum}. `}<${Description} text=${field.description} />
    </small>
    ${error && html`<p class="error" role="alert" id=${`${idOf(field)}-error`}>${error}</p>`}
  `;
}

function Text({ field, value, onChange, error, hint, described }) {
  return html`
    <div class="field" data-field=${field.name}>
      <label for=${idOf(field)}><${Name} field=${field} /></label>
      <textarea
        id=${idOf(field)}
        rows=${field.required || field.name === "prompt" ? 3 : 2}
        placeholder=${hint}
        value=${value ?? field.initial ?? ""}
        aria-invalid=${error ? "true" : undefined}
        aria-describedby=${described}
        onInput=${(event) => onChange(event.target.value)}
      ></textarea>
      <${Notes} field=${field} error=${error} />
    </div>
  `;
}

function Range({ field, value, onChange, error, described }) {
  const shown = value ?? field.initial ?? "";
  const shared = { min: field.minimum, max: field.maximum, value: shown, "aria-describedby": described };
  const take = (event) => onChange(asNumber(event.target.value));
  return html`
    <div class="field range" data-field=${field.name}>
      <label for=${idOf(field)}><${Name} field=${field} /></label>
      <div>
        <input type="range" step=${field.step} ...${shared} aria-label=${`${field.title}, slider`} onInput=${take} />
        <input
          type="number"
          id=${idOf(field)}
          step=${field.isInteger ? 1 : "any"}
          ...${shared}
          aria-invalid=${error ? "true" : undefined}
          onInput=${take}
        />
      </div>
      <${Notes} field=${field} error=${error} />
    </div>
  `;
}

function Choice({ field, value, onChange, error, described }) {
  return html`
    <fieldset class="field choice" data-field=${field.name} aria-describedby=${described}>
      <legend><${Name} field=${field} /></legend>
      <div class="segments">
        ${field.choices.map(
          (choice) => html`
            <label>
              <input
                type="radio"
                name=${field.name}
                checked=${choice === (value ?? field.initial)}
                onChange=${() => onChange(choice)}
              />
              <span>${choice}</span>
            </label>
          `,
        )}
      </div>
      <${Notes} field=${field} error=${error} />
    </fieldset>
  `;
}

function List({ field, value, onChange, error, described }) {
  const take = (event) => onChange(field.choices[event.target.selectedIndex]);
  return html`
    <div class="field" data-field=${field.name}>
      <label for=${idOf(field)}><${Name} field=${field} /></label>
      <select id=${idOf(field)} aria-describedby=${described} aria-invalid=${error ? "true" : undefined} onChange=${take}>
        ${field.choices.map((choice) => html`<option value=${choice} selected=${choice === (value ?? field.initial)}>${choice}</option>`)}
      </select>
      <${Notes} field=${field} error=${error} />
    </div>
  `;
}

/** A number without bounds, or a short text. A seed of -1 stands for a random one: the box is empty then. */
function Single({ field, value, onChange, error, described }) {
  const isNumber = field.kind === "number";
  const take = ({ target }) => onChange(isNumber ? asNumber(target.value) : target.value);
  return html`
    <div class="field" data-field=${field.name}>
      <label for=${idOf(field)}><${Name} field=${field} /></label>
      <input
        type=${isNumber ? "number" : "text"}
        id=${idOf(field)}
        step="1"
        placeholder=${field.initial === -1 ? "random" : field.initial}
        value=${value === -1 ? "" : (value ?? "")}
        aria-describedby=${described}
        aria-invalid=${error ? "true" : undefined}
        onInput=${take}
      />
      <${Notes} field=${field} error=${error} />
    </div>
  `;
}
