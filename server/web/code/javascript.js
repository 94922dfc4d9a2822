// A request in JavaScript, for Node.js.

import { KEY, lines } from "./call.js";

const literal = (value) => JSON.stringify(value);

/** The base64 of a picture. */
const base64Of = ({ name, download }) =>
  download
    ? `Buffer.from(await (await fetch(${literal(download)})).arrayBuffer()).toString("base64")`
    : `await readFile(${literal(name)}, "base64")`;

/** @param {import("./call.js").Call} call */
export function javascript(call) {
  const readsFiles = call.files.some(({ download }) => !download);
  const key = call.needsKey ? `"x-api-key": process.env.${KEY}` : "";
  return lines(
    "// Node.js 18 or newer; save it as an .mjs file.",
    `import { ${readsFiles ? "readFile, " : ""}writeFile } from "node:fs/promises";`,
    call.isQueued && 'import { setTimeout } from "node:timers/promises";',
    "",
    `const response = await fetch(${literal(call.url)}, {`,
    '  method: "POST",',
    `  headers: { "Content-Type": "application/json"${key && `, ${key}`} },`,
    "  body: JSON.stringify({",
    call.files.map((file) => `    ${file.field}: ${base64Of(file)},`),
    Object.entries({ ...call.addresses, ...call.body }).map(([name, value]) => `    ${name}: ${literal(value)},`),
    "  }),",
    "});",
    call.isPicture
      ? [
          "if (!response.ok) throw new Error((await response.json()).error);",
          `await writeFile(${literal(call.output)}, response.body);`,
        ]
      : [
          `${call.isQueued ? "let" : "const"} result = await response.json();`,
          ...(call.isQueued
            ? [
                'while (result.status === "QUEUED" || result.status === "PROCESSING") {',
                "  await setTimeout(1000);",
                `  result = await (await fetch(result.response_url${key && `, { headers: { ${key} } }`})).json();`,
                "}",
              ]
            : []),
          "if (result.error) throw new Error(result.error);",
          "for (const { file_name, url } of result.images) {",
          "  await writeFile(file_name, (await fetch(url)).body);",
          "}",
        ],
  );
}
