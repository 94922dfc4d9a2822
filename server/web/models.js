// What the page knows of the models beyond their parameters: names for people, which fields come first, presets.
// A model that is missing here has a form all the same.

const RELIGHT = {
  title: "Relight a subject",
  verb: "Relight",
  first: ["prompt", "light_source", "number_of_images"],
  subject: "subject_image",
  cropsSubject: true,
  pictureTitle: "Photo of the subject",
  promptHint: "e.g. astronaut, warm sunset light",
  presetsTitle: "Light and scene",
  presets: [
    { name: "Soft light", text: "soft light", values: { light_source: "None" } },
    { name: "Sunset", text: "warm sunset light", values: { light_source: "Left Light" } },
    { name: "Neon city", text: "neon city light", values: { light_source: "Right Light" } },
    { name: "Window", text: "daylight through a tall window, quiet room", values: { light_source: "Left Light" } },
    { name: "Moonlight", text: "pale moonlight in a pine forest", values: { light_source: "Top Light" } },
    { name: "Candle", text: "candle light from below, dark room", values: { light_source: "Bottom Light" } },
    { name: "Stage", text: "a single spotlight on a dark stage", values: { light_source: "Top Light" } },
    { name: "Overcast", text: "overcast sky over green hills", values: { light_source: "None" } },
  ],
};

const PORTRAIT = {
  title: "Portrait of a person",
  verb: "Make portrait",
  first: ["prompt", "face_style", "number_of_images"],
  subject: "face_image",
  pictureTitle: "Photo of the face",
  promptHint: "e.g. portrait of a woman, oil painting",
  presetsTitle: "Style",
  presets: [
    { name: "Studio photo", text: "studio photograph, soft key light, grey backdrop", values: { face_style: "high-fidelity" } },
    { name: "Film still", text: "film still, shallow focus, evening street", values: { face_style: "high-fidelity" } },
    { name: "Oil painting", text: "oil painting, visible brush strokes", values: { face_style: "stylized" } },
    { name: "Watercolour", text: "watercolour on rough paper", values: { face_style: "stylized" } },
    { name: "Pencil", text: "pencil drawing, fine hatching", values: { face_style: "stylized" } },
    { name: "Comic", text: "comic book drawing, bold outlines, flat colours", values: { face_style: "stylized" } },
    { name: "Clay figure", text: "clay figure, handmade, macro photograph", values: { face_style: "stylized" } },
    { name: "Explorer", text: "polar explorer in a fur hood, snow storm", values: { face_style: "high-fidelity" } },
  ],
};

const KNOWN = { "ic-light": RELIGHT, "pulid-lightning": PORTRAIT };
const ORDER = Object.keys(KNOWN);

/** Models in the order of the page, each with what is known of it. */
export function withPresentation(models) {
  const rank = ({ slug }) => (ORDER.includes(slug) ? ORDER.indexOf(slug) : ORDER.length);
  return models
    .map((model) => ({
      verb: "Make picture",
      first: ["prompt"],
      subject: model.fields.find((field) => field.kind === "picture" && field.required)?.name,
      presets: [],
      ...model,
      ...KNOWN[model.slug],
    }))
    .sort((one, other) => rank(one) - rank(other));
}

/** The preset whose text the prompt holds; undefined if it holds none. */
export const presetIn = (model, values) => model.presets.find(({ text }) => values.prompt?.includes(text));

/**
 * Values with a preset, or without it if they hold it already. What was typed stays: only the text of another preset is
 * replaced, and other fields are changed where nothing was chosen by hand.
 */
export function withPreset(model, values, preset) {
  const former = presetIn(model, values);
  const added = former === preset ? undefined : preset;
  const typed = former ? values.prompt.replace(former.text, "") : (values.prompt ?? "");
  const rest = typed.replace(/[\s,]+$/, "");
  const changed = { ...values, prompt: [rest, added?.text].filter(Boolean).join(", ") };
  for (const { name, initial } of model.fields) {
    const isUntouched = [undefined, initial, former?.values[name]].includes(values[name]);
    if (isUntouched && name in preset.values) changed[name] = added ? preset.values[name] : undefined;
  }
  return changed;
}
