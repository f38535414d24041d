// Uploads files to the folder of the page, one after the other. The browser asks for the user and the password.
"use strict";
const form = document.getElementById("upload");
const input = form.querySelector("input");
const output = form.querySelector("output");

function put(file) {
  const request = new XMLHttpRequest();
  request.open("PUT", new URL(encodeURIComponent(file.name), document.baseURI));
  return request;
}

// Has the browser ask for the user and the password, which the next requests then have. The server closes the connection of
// a large upload without them, and the browser can lose the 401. This request has no body and changes nothing: no file has
// this tag.
function logIn(file) {
  return new Promise((resolve) => {
    const request = put(file);
    request.setRequestHeader("If-Match", '"none"');
    request.onloadend = resolve;
    request.send();
  });
}

// Resolves with the reason why the file is not on the server, or nothing.
function upload(file) {
  return new Promise((resolve) => {
    const request = put(file);
    request.upload.onprogress = (event) => {
      output.textContent = `${file.name}: ${Math.floor((100 * event.loaded) / (event.total || 1))} %`;
    };
    request.onload = () => resolve(request.status < 300 ? "" : request.responseText || `status ${request.status}`);
    request.onerror = () => resolve("the connection has ended");
    request.send(file);
  });
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
    const failure = await upload(file);
    if (failure) failures.push(`${file.name}: ${failure.trim()}`);
  }
  input.disabled = false;
  output.textContent = failures.join("\n");
  if (!failures.length) location.reload();
});
form.hidden = false;
