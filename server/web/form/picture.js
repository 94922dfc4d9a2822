// A picture for a request: dropped, pasted, picked, photographed, by its URL, or the sample.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { Description } from "./fields.js";
import { BASE, call, key, stored } from "../api/calls.js";
import { useStore } from "../store.js";

/*
 * A picture is one of
 *   {name, file}               chosen here; it is uploaded when the request is sent
 *   {name, address}            one that this server stores, or one elsewhere that the server fetches
 * with `upload` if it was chosen here before it was stored, and `download` where a program can fetch it: the sample.
 */

const SAMPLE = "sample.jpg";
const hasCamera = matchMedia("(pointer: coarse)").matches;

async function samplePicture() {
  const response = await fetch(`${BASE}web/${SAMPLE}`);
  return { name: SAMPLE, file: await response.blob(), download: `${BASE}web/${SAMPLE}` };
}

/** What was entered or dropped in place of a file; one with the picture itself in it is a file like any other. */
function pictureAt(address) {
  const [, uri, base64] = /^(?:data:[^,]*,(.*)|([a-z0-9+/\s]{200,}=*\s*))$/is.exec(address) ?? [];
  if (uri === undefined && !base64) return { name: address, address };
  let bytes = "";
  try {
    bytes = atob(uri ?? base64);
  } catch {
    // The server says that it is no picture.
  }
  return { name: "picture", file: new File([Uint8Array.from(bytes, (letter) => letter.charCodeAt(0))], "picture") };
}

/**
 * A picture as the page can show it: `source` for an image element, `width` and `height` in px.
 *
 * Null until it is there, for one on another host, and for what the browser cannot decode.
 */
export function useImage(picture) {
  const [image, setImage] = useState(null);
  const file = picture?.file;
  const path = file ? null : stored(picture?.address);
  const { value: sentKey } = useStore(key);
  useEffect(() => {
    let made = null;
    let isWanted = true;
    const show = async (blob) => {
      if (!isWanted) return;
      const decoded = Object.assign(new Image(), { src: (made = URL.createObjectURL(blob)) });
      await decoded.decode();
      if (isWanted) setImage({ source: decoded.src, width: decoded.naturalWidth, height: decoded.naturalHeight });
    };
    const none = () => {};
    setImage(null);
    if (file) show(file).catch(none);
    // By a call: what was uploaded with a key is only sent with that key.
    else if (path) call(path).then((response) => response.blob()).then(show).catch(none);
    return () => {
      isWanted = false;
      URL.revokeObjectURL(made);
    };
  }, [file, path, path && sentKey]);
  return image;
}

export function PictureField({ field, title, picture, onChange, error, acceptsPaste }) {
  const [isOver, setOver] = useState(false);
  const input = useRef();
  const camera = useRef();
  const image = useImage(picture);
  const take = (file) => file && onChange({ name: file.name || "picture", file });
  usePaste(acceptsPaste, take);
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    const { files } = event.dataTransfer;
    const address = event.dataTransfer.getData("text/uri-list");
    if (files.length) take(files[0]);
    else if (address) onChange(pictureAt(address));
  };
  const over = (event) => {
    event.preventDefault();
    setOver(true);
  };
  const label = title ?? field.title;
  return html`
    <fieldset class="picture" data-field=${field.name} aria-describedby=${error && `${field.name}-error`}>
      <legend>${label} <code>${field.name}</code>${field.extension && html` <em class="badge">extension</em>`}</legend>
      <div
        class="well ${isOver ? "over" : ""} ${picture ? "full" : ""}"
        onDragOver=${over}
        onDragLeave=${() => setOver(false)}
        onDrop=${drop}
      >
        ${picture
          ? html`
              ${image
                ? html`<img src=${image.source} alt="The chosen picture: ${picture.name}" />`
                : html`<p class="no-preview">No preview</p>`}
              <p class="name">${picture.name}</p>
              <button type="button" class="quiet" onClick=${() => onChange(null)}>Remove</button>
            `
          : html`
              <p>${hasCamera ? "A picture from this device, or its address" : "Drop a picture here, or paste one"}</p>
              <div class="ways">
                <button type="button" class="quiet" onClick=${() => input.current.click()}>Choose a file</button>
                ${hasCamera && html`<button type="button" class="quiet" onClick=${() => camera.current.click()}>Take a photo</button>`}
                ${field.required &&
                html`<button type="button" class="quiet" onClick=${async () => onChange(await samplePicture())}>
                  Use the sample photo
                </button>`}
              </div>
              <${AddressEntry} label=${label} onEnter=${(address) => onChange(pictureAt(address))} />
            `}
        <input ref=${input} type="file" accept="image/*" hidden aria-label=${label} onChange=${(e) => take(e.target.files[0])} />
        <input ref=${camera} type="file" accept="image/*" capture hidden aria-label=${`${label}, camera`} onChange=${(e) => take(e.target.files[0])} />
      </div>
      ${!field.required && html`<small><${Description} text=${field.description} /></small>`}
      ${error && html`<p class="error" role="alert" id=${`${field.name}-error`}>${error}</p>`}
    </fieldset>
  `;
}

function AddressEntry({ label, onEnter }) {
  const [address, setAddress] = useState("");
  const enter = () => address.trim() && onEnter(address.trim());
  const onKey = (event) => {
    if (event.key !== "Enter" || event.ctrlKey || event.metaKey) return;
    event.preventDefault(); // Enter sends no half-filled form
    enter();
  };
  return html`
    <div class="address">
      <input
        type="url"
        placeholder="or its address: https://…"
        aria-label=${`${label}: URL`}
        value=${address}
        onInput=${(event) => setAddress(event.target.value)}
        onKeyDown=${onKey}
        onChange=${enter}
      />
    </div>
  `;
}

/** Call `take` with a picture that is pasted anywhere on the page. */
function usePaste(isActive, take) {
  useEffect(() => {
    if (!isActive) return undefined;
    const paste = (event) => {
      const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
      if (!file) return;
      event.preventDefault();
      take(file);
    };
    document.addEventListener("paste", paste);
    return () => document.removeEventListener("paste", paste);
  });
}
