// Programs that send exactly one request: in four languages, by v1 (waits for the picture) and v2 (queued).

import { BASE } from "../api/calls.js";

const SERVER = BASE.replace(/\/$/, "");
const KEY = "FACELIGHT_API_KEY";

export const LANGUAGES = {
  curl: { title: "curl", write: curl },
  segmind: { title: "Python, segmind", write: segmind },
  requests: { title: "Python, requests", write: requests },
  fetch: { title: "JavaScript", write: javascript },
};
export const VERSIONS = { v2: "v2: queue and poll", v1: "v1: wait" };

/*
 * A request to write: {slug, version, body, pictures, needsKey}. A picture is the address that the API is given, or a file
 * beside the program, which a `download` brings there.
 */

/** How a program has a picture: `address`, or the name of a `file` and where to `download` it. */
function parts(pictures) {
  return Object.entries(pictures).map(([field, { name, address, file, download, upload }]) => {
    const isFile = Boolean(file || upload || download);
    return isFile ? { field, file: name, download } : { field, address };
  });
}

const isSeveral = ({ body }) => (body.number_of_images ?? 1) > 1;
const formatOf = ({ body, initialFormat }) => body.output_format ?? initialFormat;

function curl(request) {
  const { slug, version, needsKey } = request;
  const shell = (text) => `'${String(text).replaceAll("'", `'\\''`)}'`;
  const auth = needsKey ? ` -H "x-api-key: $${KEY}"` : "";
  const pictures = parts(request.pictures);
  const lines = pictures.filter((each) => each.download).map((each) => `curl -fsS -o ${shell(each.file)} ${shell(each.download)}`);
  const fileName = (name) => (/[;,"\\]/.test(name) ? `"${name.replace(/["\\]/g, "\\$&")}"` : name);
  const form = [
    ...pictures.map(({ field, file, address }) => (file ? `-F ${shell(`${field}=@${fileName(file)}`)}` : `--form-string ${shell(`${field}=${address}`)}`)),
    ...Object.entries(request.body).map(([name, value]) => `--form-string ${shell(`${name}=${value}`)}`),
  ];
  const post = (options) => [`curl -sS --fail-with-body${auth}${options} ${shell(`${SERVER}/${version}/${slug}`)}`, ...form].join(" \\\n  ");
  const download = `grep -o '"url":"[^"]*"' | cut -d '"' -f 4 | while read -r url; do curl -fsS -O "$url"; done`;
  if (version === "v1") {
    lines.push(isSeveral(request) ? `${post("")} |\n  ${download}` : post(` -o picture.${formatOf(request)}`));
    return lines.join("\n");
  }
  lines.push(
    `id=$(${post("")} | sed 's/.*"request_id":"\\([^"]*\\)".*/\\1/')`,
    `until curl -sS${auth} ${shell(`${SERVER}/v2/requests/`)}"$id"/status | grep -q 'COMPLETED\\|FAILED\\|"error"'; do sleep 1; done`,
    `curl -sS${auth} ${shell(`${SERVER}/v2/requests/`)}"$id" | ${download}`,
  );
  return lines.join("\n");
}

/** Python's notation of a value; JSON's differs in nothing that a body holds. */
const python = (value) => JSON.stringify(value);
const arguments_ = (body) => Object.entries(body).map(([name, value]) => `    ${name}=${python(value)},`);

function segmind(request) {
  const { slug, version, body, needsKey } = request;
  const pictures = parts(request.pictures);
  const files = pictures.filter((each) => each.file);
  const key = needsKey ? `api_key=os.environ[${python(KEY)}], ` : "";
  const client = `SegmindClient(${key}base_url=${python(`${SERVER}/v1`)}${version === "v1" ? ", timeout=600" : ""})`;
  const sent = [
    ...pictures.map(({ field, file, address }) => `    ${field}=${file ? `base64.b64encode(${field}).decode()` : python(address)},`),
    ...arguments_(body),
  ];
  const content = ({ file, download }) => (download ? `httpx.get(${python(download)}).content` : `Path(${python(file)}).read_bytes()`);
  const pythonImports = [files.length && "import base64", needsKey && "import os", "from pathlib import Path"];
  const head = [...pythonImports, "", "import httpx", "import segmind", "from segmind import SegmindClient", ""];
  const tail =
    version === "v1" && !isSeveral(request)
      ? [`Path(${python(`picture.${formatOf(request)}`)}).write_bytes(result.content)`]
      : [
          `for image in ${version === "v1" ? `result.json()["images"]` : `result["images"]`}:`,
          `    Path(image["file_name"]).write_bytes(httpx.get(image["url"]).content)`,
        ];
  const usesHttpx = tail.length > 1 || files.some((each) => each.download);
  return [
    ...head.filter((line) => line !== false && line !== 0 && (line !== "import httpx" || usesHttpx)),
    `segmind._default_client = ${client}`,
    ...files.map((each) => `${each.field} = ${content(each)}`),
    `result = segmind.${version === "v1" ? "run_sync" : "run"}(`,
    `    ${python(slug)},`,
    ...sent,
    ")",
    ...tail,
  ].join("\n");
}

function requests(request) {
  const { slug, version, body, needsKey } = request;
  const pictures = parts(request.pictures);
  const files = pictures.filter((each) => each.file);
  const fields = { ...Object.fromEntries(pictures.filter((each) => each.address).map((each) => [each.field, each.address])), ...body };
  const auth = needsKey ? ", headers=headers" : "";
  const content = ({ file, download }) => (download ? `requests.get(${python(download)}).content` : `open(${python(file)}, "rb").read()`);
  const sent = [
    files.length && `    files={${files.map((each) => `${python(each.field)}: ${content(each)}`).join(", ")}},`,
    "    data={",
    ...Object.entries(fields).map(([name, value]) => `        ${python(name)}: ${python(value)},`),
    "    },",
    needsKey && "    headers=headers,",
  ].filter(Boolean);
  const save = [
    `for image in result["images"]:`,
    `    with open(image["file_name"], "wb") as file:`,
    `        file.write(requests.get(image["url"]).content)`,
  ];
  const one = [`with open(${python(`picture.${formatOf(request)}`)}, "wb") as file:`, "    file.write(response.content)"];
  const poll = [
    `url = response.json()["response_url"]`,
    `while (result := requests.get(url${auth}).json())["status"] in ("QUEUED", "PROCESSING"):`,
    "    time.sleep(1)",
    `if result["status"] == "FAILED":`,
    `    raise SystemExit(result["error"])`,
    ...save,
  ];
  return [
    ...[needsKey && "import os", version === "v2" && "import time"].filter(Boolean),
    ...(needsKey || version === "v2" ? [""] : []),
    "import requests",
    "",
    ...(needsKey ? [`headers = {"x-api-key": os.environ[${python(KEY)}]}`] : []),
    "response = requests.post(",
    `    ${python(`${SERVER}/${version}/${slug}`)},`,
    ...sent,
    ")",
    "if not response.ok:",
    `    raise SystemExit(response.json()["error"])`,
    ...(version === "v2" ? poll : isSeveral(request) ? [`result = response.json()`, ...save] : one),
  ].join("\n");
}

function javascript(request) {
  const { slug, version, body, needsKey } = request;
  const text = JSON.stringify;
  const pictures = parts(request.pictures);
  const auth = needsKey ? ", { headers }" : "";
  const content = ({ file, download }) => (download ? `await (await fetch(${text(download)})).blob()` : `new Blob([await readFile(${text(file)})])`);
  const append = [
    ...pictures.map((each) => `form.append(${text(each.field)}, ${each.file ? `${content(each)}, ${text(each.file)}` : text(each.address)});`),
    ...Object.entries(body).map(([name, value]) => `form.append(${text(name)}, ${text(String(value))});`),
  ];
  const save = [
    "for (const image of result.images) {",
    "  const picture = await (await fetch(image.url)).arrayBuffer();",
    "  await writeFile(image.file_name, Buffer.from(picture));",
    "}",
  ];
  const one = [`await writeFile(${text(`picture.${formatOf(request)}`)}, Buffer.from(await response.arrayBuffer()));`];
  const poll = [
    "const { response_url } = await response.json();",
    "let result;",
    "do {",
    "  await new Promise((resolve) => setTimeout(resolve, 1000));",
    `  result = await (await fetch(response_url${auth})).json();`,
    `} while (result.status === "QUEUED" || result.status === "PROCESSING");`,
    `if (result.status === "FAILED") throw new Error(result.error);`,
    ...save,
  ];
  const usesFiles = pictures.some((each) => each.file && !each.download);
  return [
    "// Node.js 18 or newer, as an .mjs file. In a page append a File from <input type=file> and show the pictures.",
    `import { ${usesFiles ? "readFile, " : ""}writeFile } from "node:fs/promises";`,
    "",
    ...(needsKey ? [`const headers = { "x-api-key": process.env.${KEY} };`] : []),
    "const form = new FormData();",
    ...append,
    `const response = await fetch(${text(`${SERVER}/${version}/${slug}`)}, { method: "POST", body: form${needsKey ? ", headers" : ""} });`,
    "if (!response.ok) throw new Error((await response.json()).error);",
    ...(version === "v2" ? poll : isSeveral(request) ? ["const result = await response.json();", ...save] : one),
  ].join("\n");
}
