// The call that a program makes, as its writers need it.

import { BASE } from "../api/calls.js";

const SERVER = BASE.replace(/\/$/, "");

/** The environment variable from which programs read the API key: it never stands in them. */
export const KEY = "FACELIGHT_API_KEY";

/**
 * @typedef {object} Call
 * @property {string} url where the request is sent
 * @property {string} base what client libraries take for the API's address
 * @property {string} slug
 * @property {boolean} isQueued v2: the answer tells where the result will be
 * @property {boolean} isPicture v1 with one picture: the answer is the encoded picture itself
 * @property {boolean} needsKey
 * @property {{field: string, name: string, download?: string}[]} files pictures that are files beside the program; one
 *   with `download` is fetched from there
 * @property {Object<string, string>} addresses pictures that the server knows or fetches, by field
 * @property {Object<string, string|number>} body the other fields
 * @property {string} output name for the file of the one picture
 */

/**
 * The call for a request as the page has it: `pictures` by field as in form/picture.js, `initialFormat` is that of
 * pictures whose request names none.
 *
 * @returns {Call}
 */
export function callFor({ slug, version, body, pictures, needsKey, initialFormat }) {
  const entries = Object.entries(pictures);
  const isFile = ({ file, upload, download }) => Boolean(file || upload || download);
  const isQueued = version === "v2";
  return {
    url: `${SERVER}/${version}/${slug}`,
    base: `${SERVER}/v1`,
    slug,
    isQueued,
    isPicture: !isQueued && (body.number_of_images ?? 1) === 1,
    needsKey,
    files: entries
      .filter(([, picture]) => isFile(picture))
      .map(([field, { name, download }]) => ({ field, name, download })),
    addresses: Object.fromEntries(
      entries.filter(([, picture]) => !isFile(picture)).map(([field, { address }]) => [field, address]),
    ),
    body,
    output: `picture.${body.output_format ?? initialFormat}`,
  };
}

/** A program from lines, and lists of lines; those that are false are left out. */
export const lines = (...parts) => parts.flat().filter((line) => line !== false).join("\n");
