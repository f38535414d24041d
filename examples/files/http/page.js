// Uploads files to the folder of the page, one after the other. The browser asks for the user and the password.
"use strict";
const form = document.getElementById("upload");
const input = form.querySelector("input");
const output = form.querySelector("output");

function open(method, file) {
  const request = new XMLHttpRequest();
  request.open(method, urlOf(file));
  return request;
}

function urlOf(file) {
  return new URL(encodeURIComponent(file.name), document.baseURI).href;
}

// Has the browser ask for the user and the password, which the next requests then have. The server closes the connection of
// a large upload without them, and the browser can lose the 401. This request has no body and changes nothing: no file has
// this tag.
function logIn(file) {
  return new Promise((resolve) => {
    const request = open("PUT", file);
    request.setRequestHeader("If-Match", '"none"');
    request.onloadend = resolve;
    request.send();
  });
}

// Whether the server has a file of this name. The upload has a condition, too, but the reply to a large one that fails can be
// lost like the 401.
function isThere(file) {
  return new Promise((resolve) => {
    const request = open("HEAD", file);
    // A folder redirects to its own URL. It cannot be replaced, as the upload then reports.
    request.onloadend = () => resolve(request.status === 200 && request.responseURL === urlOf(file));
    request.send();
  });
}

// Resolves with the status, and the reason why the file is not on the server, if it is not.
function upload(file, mayReplace) {
  return new Promise((resolve) => {
    const request = open("PUT", file);
    if (!mayReplace) request.setRequestHeader("If-None-Match", "*");
    request.upload.onprogress = (event) => {
      output.textContent = `${file.name}: ${Math.floor((100 * event.loaded) / (event.total || 1))} %`;
    };
    request.onload = () => {
      const { status } = request;
      resolve({ status, failure: status < 300 ? "" : request.responseText || `status ${status}` });
    };
    request.onerror = () => resolve({ status: 0, failure: "the connection has ended" });
    request.send(file);
  });
}

// A file of the same name is replaced only if the user says so, also one that has appeared a moment ago. Resolves with the reason
// why the file is not on the server, or nothing.
async function uploadNew(file) {
  const mayReplace = () => confirm(`There is a file ${file.name} here. Replace it?`);
  const kept = "not uploaded: there is a file of this name";
  if (await isThere(file)) return mayReplace() ? (await upload(file, true)).failure : kept;
  const { status, failure } = await upload(file, false);
  if (status !== 412) return failure;
  return mayReplace() ? (await upload(file, true)).failure : kept;
}

input.addEventListener("change", async () => {
  const failures = [];
  input.disabled = true;
  const files = Array.from(input.files).filter((file) => {
    const isTooLarge = file.size > Number(form.dataset.most);
    if (isTooLarge) failures.push(`${file.name}: larger than what the server takes`);
    return !isTooLarge;
  });
  if (files.length) await logIn(files[0]);
  for (const file of files) {
    const failure = await uploadNew(file);
    if (failure) failures.push(`${file.name}: ${failure.trim()}`);
  }
  input.disabled = false;
  // Otherwise the same file could not be chosen again.
  input.value = "";
  output.textContent = failures.join("\n");
  if (!failures.length) location.reload();
});
form.hidden = false;
