// Tells that a photo will be cropped to another shape, and offers to keep its own.

import { html } from "../vendor/htm-preact.js";

/** Shapes whose ratios differ by less are alike. */
const ALIKE = 1.15;

export function Shape({ model, values, image, onValues }) {
  const [width, height] = ["width", "height"].map((name) => model.fields.find((field) => field.name === name));
  if (!width?.choices || !height?.choices) return null;
  const size = { width: values.width ?? width.initial, height: values.height ?? height.initial };
  const differs = (one, other) => Math.abs(Math.log((one.width * other.height) / (one.height * other.width)));
  const kept = nearest(image, size, width.choices, height.choices);
  if (differs(size, image) < Math.log(ALIKE) || differs(size, image) <= differs(kept, image)) return null;
  const shape = { "-1": "upright", 0: "square", 1: "wide" }[Math.sign(size.width - size.height)];
  return html`
    <p class="shape">
      The result will be ${shape}, and the photo is cropped to that.
      <button type="button" class="quiet" onClick=${() => onValues({ ...values, ...kept })}>Keep the photo's shape</button>
    </p>
  `;
}

/** The width and height that a model offers with the shape of an image, and about as many pixels as `size`. */
function nearest(image, size, widths, heights) {
  const badness = (width, height) =>
    4 * Math.abs(Math.log((width * image.height) / (height * image.width))) +
    Math.abs(Math.log((width * height) / (size.width * size.height)));
  const sizes = widths.flatMap((width) => heights.map((height) => ({ width, height, badness: badness(width, height) })));
  const { width, height } = sizes.reduce((best, each) => (each.badness < best.badness ? each : best));
  return { width, height };
}
