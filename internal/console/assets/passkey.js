// Passkeys: makes one on the page of the account, and signs in with one.
// Without a browser that has them the buttons stay hidden.
const box = document.querySelector("[data-passkey]");
const button = box?.querySelector("button");
const says = box?.querySelector("[role=status]");

async function ask(path, body) {
  const res = await fetch(path, { method: "POST", body, headers: body ? { "Content-Type": "application/json" } : {} });
  if (!res.ok) throw new Error(await res.text());
  return res.status === 204 ? null : res.json();
}

const make = {
  async begin() {
    const options = await ask("/account/passkey/make");
    return navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) });
  },
  async end(answer) {
    const name = box.querySelector("input").value;
    const codes = await ask("/account/passkey/keep?name=" + encodeURIComponent(name), answer);
    if (codes.length === 0) return location.assign("/account");
    const list = box.querySelector("ul");
    list.replaceChildren(...codes.map((code) => {
      const item = document.createElement("li");
      item.append(Object.assign(document.createElement("code"), { textContent: code }));
      return item;
    }));
    button.hidden = true;
    box.querySelector("label").hidden = true;
    says.textContent = "The passkey counts from now on. These are your recovery codes: each is good once, and they are shown this once.";
  },
};

const take = {
  async begin() {
    const options = await ask("/sign-in/passkey/ask");
    return navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
  },
  async end(answer) {
    await ask("/sign-in/passkey/take", answer);
    location.assign("/");
  },
};

if (box && window.PublicKeyCredential?.parseCreationOptionsFromJSON) {
  box.hidden = false;
  const way = box.dataset.passkey === "make" ? make : take;
  button.addEventListener("click", async () => {
    button.disabled = true;
    says.textContent = "";
    try {
      const answer = await way.begin();
      await way.end(JSON.stringify(answer.toJSON()));
    } catch (err) {
      says.textContent = err.name === "NotAllowedError" ? "Nothing was done: it was cancelled, or there is no passkey for this page." : err.message;
    } finally {
      button.disabled = false;
    }
  });
}
