// Settings in the address: a link that restores the form. Never the key, never a picture.

/** The address of this page with a model's settings. */
export function linkTo(model, body) {
  const fragment = new URLSearchParams({ model: model.slug, ...body });
  return new URL(`#${fragment}`, location.href.split("#")[0]).href;
}

/** The settings of a fragment, as `{slug, values}`; null if it has none, or of no model that there is. */
export function settingsIn(fragment, models) {
  const found = new URLSearchParams(fragment.replace(/^#/, ""));
  const model = models.find((each) => each.slug === found.get("model"));
  if (!model) return null;
  const given = model.fields.filter(({ name, kind }) => kind !== "picture" && found.has(name));
  const read = given.map((field) => [field.name, valueOf(field, found.get(field.name))]);
  return { slug: model.slug, values: Object.fromEntries(read.filter(([, value]) => value !== undefined)) };
}

/** The value of a field that a text stands for; undefined if it is none of the field's type. */
function valueOf({ kind, choices, isInteger }, text) {
  if (choices) return choices.find((choice) => String(choice) === text);
  if (kind !== "range" && kind !== "number") return text;
  const number = Number(text.trim() || NaN);
  return Number.isFinite(number) && (!isInteger || Number.isInteger(number)) ? number : undefined;
}
