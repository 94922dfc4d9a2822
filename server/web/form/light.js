// The side that the light comes from, chosen on a small picture of the subject.

import { html } from "../vendor/htm-preact.js";
import { Description } from "./fields.js";

export function LightField({ field, value, onChange, error, image }) {
  const chosen = value ?? field.initial;
  const side = (choice) => choice.split(" ")[0].toLowerCase();
  return html`
    <fieldset class="light" data-field=${field.name}>
      <legend>Light from <code>${field.name}</code></legend>
      <div class="sides lit-${side(chosen)}">
        ${image ? html`<img src=${image.source} alt="" />` : html`<span class="subject" aria-hidden="true"></span>`}
        ${field.choices.map(
          (choice) => html`
            <label class="from-${side(choice)}">
              <input
                type="radio"
                name=${field.name}
                value=${choice}
                checked=${choice === chosen}
                onChange=${() => onChange(choice)}
              />
              <span>${choice === "None" ? "Any side" : choice.split(" ")[0]}</span>
            </label>
          `,
        )}
      </div>
      <small><${Description} text=${field.description} /></small>
      ${error && html`<p class="error" role="alert">${error}</p>`}
    </fieldset>
  `;
}
