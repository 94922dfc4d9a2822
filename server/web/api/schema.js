// The form's fields, read from the server's OpenAPI document: a parameter that the server adds appears by itself.

/** Parameters about who is told of the end of a request: of no use to a page that follows it. */
const NOT_FOR_A_PAGE = /^webhook/;

/** The document's models: slug, what it does, fields. Raises TypeError for a document of another shape. */
export function modelsOf(document) {
  return Object.entries(document.paths)
    .filter(([path, operations]) => /^\/v2\/[^/]+$/.test(path) && operations.post)
    .map(([path, { post }]) => {
      const reference = post.requestBody.content["application/json"].schema.$ref;
      const schema = document.components.schemas[reference.split("/").pop()];
      const required = new Set(schema.required);
      const fields = Object.entries(schema.properties)
        .filter(([name]) => !NOT_FOR_A_PAGE.test(name))
        .map(([name, property]) => fieldOf(name, property, required.has(name)));
      return { slug: path.slice("/v2/".length), title: schema.title, description: post.description, fields };
    });
}

/** Whether calls need an API key: not if the document offers to go without. */
export function needsKey(document) {
  const operation = Object.values(document.paths).find((each) => each.post?.security)?.post;
  return !(operation?.security ?? []).some((scheme) => Object.keys(scheme).length === 0);
}

function fieldOf(name, property, required) {
  const words = name.replaceAll("_", " ");
  return {
    name,
    title: words[0].toUpperCase() + words.slice(1),
    description: property.description ?? "",
    kind: kindOf(property),
    isInteger: property.type === "integer",
    minimum: property.minimum,
    maximum: property.maximum,
    step: stepOf(property),
    choices: property.enum,
    initial: property.default,
    required,
    extension: property["x-extension"] === true,
  };
}

function kindOf(property) {
  if (property.format === "image-reference") return "picture";
  if (property.enum) return property.enum.length > 6 ? "list" : "choice";
  if (property.type === "integer" || property.type === "number") return "maximum" in property ? "range" : "number";
  return property.maxLength > 200 ? "text" : "line";
}

/** Step of a slider; the box beside it takes any value. */
function stepOf({ type, minimum, maximum }) {
  const span = maximum - minimum;
  if (type === "integer") return span > 500 ? 64 : 1;
  return span > 5 ? 0.5 : 0.05;
}

/** Fields of a request's body, without pictures: those that differ from what the server assumes without them. */
export function bodyOf(model, values) {
  const body = {};
  for (const { name, kind, initial } of model.fields) {
    const value = values[name];
    const isEmpty = value === undefined || (value === "" && kind !== "text");
    if (kind !== "picture" && !isEmpty && value !== initial) body[name] = value;
  }
  return body;
}
