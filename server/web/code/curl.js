// A request by curl, for any shell: bash, zsh, sh.

import { KEY, lines } from "./call.js";

/** A text as one word of a shell. */
const word = (text) => `'${String(text).replaceAll("'", `'\\''`)}'`;

/** A file's name as curl reads it behind the @ of a form's field. */
const fileName = (name) => (/^[\w.-]+$/.test(name) ? name : `"${name.replace(/["\\]/g, "\\$&")}"`);

const SAVE = [
  `if echo "$answer" | grep -q '"COMPLETED"'; then`,
  `  echo "$answer" | grep -o '"url":"[^"]*"' | cut -d '"' -f 4 | xargs -n 1 curl -fsSO`,
  "else",
  `  echo "$answer" >&2; false`,
  "fi",
];

/** @param {import("./call.js").Call} call */
export function curl(call) {
  const key = call.needsKey ? ` -H "x-api-key: $${KEY}"` : "";
  const options = call.isPicture ? " --fail-with-body" : "";
  const post = [
    `curl -sS${options}${key} ${word(call.url)}`,
    ...call.files.map(({ field, name }) => `-F ${word(`${field}=@${fileName(name)}`)}`),
    ...Object.entries({ ...call.addresses, ...call.body }).map(
      ([field, value]) => `--form-string ${word(`${field}=${value}`)}`,
    ),
  ].join(" \\\n  ");
  return lines(
    call.files
      .filter(({ download }) => download)
      .map(({ name, download }) => `curl -fsS -o ${word(name)} ${word(download)}`),
    call.isPicture
      ? `${post} > ${call.output} || { cat ${call.output} >&2; false; }`
      : `answer=$(${post})`,
    call.isQueued && [
      `while echo "$answer" | grep -Eq '"status":"(QUEUED|PROCESSING)"'; do`,
      "  sleep 1",
      `  answer=$(curl -sS${key} "$(echo "$answer" | sed 's/.*"response_url":"\\([^"]*\\)".*/\\1/')")`,
      "done",
    ],
    !call.isPicture && SAVE,
  );
}
