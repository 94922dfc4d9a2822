// A request in Python: with the client library `segmind`, and with `requests`.

import { KEY, lines } from "./call.js";

/** Python's notation of a text or number: JSON's differs in nothing that a request holds. */
const literal = (value) => JSON.stringify(value);

/** The bytes of a picture, by the module `http`: httpx or requests. */
const bytesOf = ({ name, download }, http) =>
  download ? `${http}.get(${literal(download)}).content` : `Path(${literal(name)}).read_bytes()`;

const saveAll = (http) => [
  'for image in result["images"]:',
  `    Path(image["file_name"]).write_bytes(${http}.get(image["url"]).content)`,
];

/** @param {import("./call.js").Call} call */
export function segmind(call) {
  const needsHttpx = !call.isPicture || call.files.some(({ download }) => download);
  const options = [
    call.needsKey && `api_key=os.environ[${literal(KEY)}]`,
    `base_url=${literal(call.base)}`,
    !call.isQueued && "timeout=600",
  ].filter(Boolean);
  return lines(
    "# pip install segmind",
    call.files.length > 0 && "import base64",
    call.needsKey && "import os",
    "from pathlib import Path",
    "",
    needsHttpx && "import httpx",
    "from segmind import SegmindClient",
    "",
    `client = SegmindClient(${options.join(", ")})`,
    `${call.isQueued ? "result = client.run" : "response = client.run_sync"}(`,
    `    ${literal(call.slug)},`,
    call.files.map((file) => `    ${file.field}=base64.b64encode(${bytesOf(file, "httpx")}).decode(),`),
    Object.entries({ ...call.addresses, ...call.body }).map(([name, value]) => `    ${name}=${literal(value)},`),
    ")",
    call.isPicture
      ? `Path(${literal(call.output)}).write_bytes(response.content)`
      : [...(call.isQueued ? [] : ["result = response.json()"]), ...saveAll("httpx")],
  );
}

/** @param {import("./call.js").Call} call */
export function requests(call) {
  const key = call.needsKey ? ", headers=headers" : "";
  const fields = Object.entries({ ...call.addresses, ...call.body });
  return lines(
    "# pip install requests",
    call.needsKey && "import os",
    call.isQueued && "import time",
    "from pathlib import Path",
    "",
    "import requests",
    "",
    call.needsKey && `headers = {"x-api-key": os.environ[${literal(KEY)}]}`,
    "response = requests.post(",
    `    ${literal(call.url)},`,
    call.needsKey && "    headers=headers,",
    call.files.length > 0 && [
      "    files={",
      ...call.files.map((file) => `        ${literal(file.field)}: ${bytesOf(file, "requests")},`),
      "    },",
    ],
    fields.length > 0 && [
      `    ${call.files.length ? "data" : "json"}={`,
      ...fields.map(([name, value]) => `        ${literal(name)}: ${literal(value)},`),
      "    },",
    ],
    ")",
    call.isPicture
      ? [
          "if not response.ok:",
          '    raise SystemExit(response.json()["error"])',
          `Path(${literal(call.output)}).write_bytes(response.content)`,
        ]
      : [
          "result = response.json()",
          ...(call.isQueued
            ? [
                'while result.get("status") in ("QUEUED", "PROCESSING"):',
                "    time.sleep(1)",
                `    result = requests.get(result["response_url"]${key}).json()`,
              ]
            : []),
          'if result["error"]:',
          '    raise SystemExit(result["error"])',
          ...saveAll("requests"),
        ],
  );
}
