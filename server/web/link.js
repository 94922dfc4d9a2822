// Settings in the address: a link that restores the form. Never the key, never a picture.

/** The address of this page with a model's settings. */
export function linkTo(model, body) {
  const fragment = new URLSearchParams({ model: model.slug, ...body });
  return new URL(`#${fragment}`, location.href.split("#")[0]).href;
}

/** The settings of the present address, as `{slug, values}`; null if it has none, or of no model that there is. */
export function settingsIn(fragment, models) {
  const found = new URLSearchParams(fragment.replace(/^#/, ""));
  const model = models.find((each) => each.slug === found.get("model"));
  if (!model) return null;
  const values = {};
  for (const field of model.fields) {
    const text = found.get(field.name);
    if (text === null || field.kind === "picture") continue;
    const isNumber = field.kind === "range" || field.kind === "number" || typeof field.choices?.[0] === "number";
    values[field.name] = isNumber && text !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
  }
  return { slug: model.slug, values };
}
