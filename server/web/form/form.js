// The form of a model: pictures, presets, the fields that come first, and the others folded.

import { html, useEffect, useRef } from "../vendor/htm-preact.js";
import { lazy } from "../lazy.js";
import { presetIn, withPreset } from "../models.js";
import { Field } from "./fields.js";
import { LightField } from "./light.js";
import { PictureField, useImage } from "./picture.js";

const Shape = lazy(() => import("./shape.js").then((module) => module.Shape));

export function ModelChoice({ models, slug, onChange }) {
  return html`
    <fieldset class="models">
      <legend>What to make</legend>
      ${models.map(
        (model) => html`
          <label>
            <input type="radio" name="model" checked=${model.slug === slug} onChange=${() => onChange(model.slug)} />
            <span><strong>${model.title}</strong> <code>${model.slug}</code></span>
          </label>
        `,
      )}
    </fieldset>
  `;
}

export function Form({ model, values, pictures, problem, isSending, onValues, onPictures, onSubmit }) {
  const form = useRef();
  const folded = useRef();
  const image = useImage(pictures[model.subject]);
  const errors = problem?.fields ?? {};
  const set = (name, value) => onValues({ ...values, [name]: value });
  const send = (event) => {
    event?.preventDefault();
    if (!isSending) onSubmit();
  };
  useShortcut(send);

  const pictureField = (field, title, acceptsPaste) => html`
    <${PictureField}
      key=${`${model.slug}-${field.name}`}
      field=${field}
      title=${title}
      picture=${pictures[field.name]}
      onChange=${(picture) => onPictures({ ...pictures, [field.name]: picture })}
      error=${errors[field.name]}
      acceptsPaste=${acceptsPaste}
    />
  `;
  const input = (field) => {
    const shared = { field, value: values[field.name], onChange: (value) => set(field.name, value), error: errors[field.name] };
    if (field.kind === "picture") return pictureField(field);
    if (field.choices?.includes("Left Light")) return html`<${LightField} ...${shared} image=${image} />`;
    return html`<${Field} ...${shared} hint=${field.name === "prompt" ? model.promptHint : undefined} />`;
  };
  const isFirst = ({ name }) => model.first.includes(name);
  const first = model.first.map((name) => model.fields.find((field) => field.name === name)).filter(Boolean);
  const others = model.fields.filter((field) => !isFirst(field) && field.name !== model.subject);
  const subject = model.fields.find((field) => field.name === model.subject);
  const changed = others.filter(({ name, initial }) => ![undefined, "", initial].includes(values[name])).length;
  useEffect(() => {
    if (others.some(({ name }) => errors[name])) folded.current.open = true;
    if (problem && !problem.isSeen) form.current.querySelector("[role=alert]")?.scrollIntoView({ block: "center" });
  }, [problem]);
  // An error that stands beside its field need not be told twice.
  const names = Object.keys(errors);
  const isToldAbove = names.length > 0 && names.every((name) => model.fields.some((field) => field.name === name));
  return html`
    <form ref=${form} class="make" noValidate onSubmit=${send}>
      ${subject && pictureField(subject, model.pictureTitle, true)}
      ${model.cropsSubject && image && html`<${Shape} model=${model} values=${values} image=${image} onValues=${onValues} />`}
      ${first.slice(0, 1).map(input)}
      <${Presets} model=${model} chosen=${presetIn(model, values)} onChoose=${(preset) => onValues(withPreset(model, values, preset))} />
      ${first.slice(1).map(input)}
      <details class="advanced" ref=${folded}>
        <summary>More settings${changed > 0 && html` <em class="badge">${changed} changed</em>`}</summary>
        <div>${others.map(input)}</div>
      </details>
      ${problem && !isToldAbove && html`<p class="error" role="alert">${problem.message}</p>`}
      <div class="send">
        <button type="submit" aria-busy=${isSending ? "true" : undefined}>${isSending ? "Sending…" : model.verb}</button>
        <small>or Ctrl + Enter</small>
      </div>
    </form>
  `;
}

function Presets({ model, chosen, onChoose }) {
  return model.presets.length > 0 && html`
    <ul class="presets" aria-label=${model.presetsTitle}>
      ${model.presets.map(
        (preset) => html`
          <li>
            <button
              type="button"
              class="chip"
              title=${preset.text}
              aria-pressed=${preset === chosen ? "true" : "false"}
              onClick=${() => onChoose(preset)}
            >
              ${preset.name}
            </button>
          </li>
        `,
      )}
    </ul>
  `;
}

function useShortcut(send) {
  const latest = useRef();
  latest.current = send; // at once: what was typed just before is sent
  useEffect(() => {
    const press = (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) latest.current(event);
    };
    document.addEventListener("keydown", press);
    return () => document.removeEventListener("keydown", press);
  }, []);
}
