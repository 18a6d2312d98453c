// What the scripts of this folder share: Debian's Chromium, and a page whose
// complaints are collected.
import { createRequire } from "node:module";
import { params, patience } from "../clients/lib.mjs";

const require = createRequire(new URL("../clients/", import.meta.url));
const { chromium } = require("playwright-core");
export const mqtt = require("mqtt");

export const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-dev-shm-usage",
    // Who is trusted: where a certificate is not, there are no passkeys.
    ...(params.spki ? [`--ignore-certificate-errors-spki-list=${params.spki}`] : [])],
});

// context is a browser of its own: nothing is shared with the others.
export async function context(options) {
  const c = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1280, height: 900 }, ...options });
  c.setDefaultTimeout(patience);
  return c;
}

// open opens a page and collects what it and the browser complain about.
export async function open(c) {
  const page = await c.newPage();
  page.complaints = [];
  page.on("console", (m) => ["error", "warning"].includes(m.type()) && page.complaints.push(m.text()));
  page.on("pageerror", (e) => page.complaints.push(String(e)));
  page.on("request", (r) => r.url().startsWith(params.console) || r.url().startsWith("data:") || page.complaints.push(`request to ${r.url()}`));
  await page.addInitScript(() => {
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (e) => window.violations.push(`${e.violatedDirective} ${e.blockedURI}`));
  });
  return page;
}

export const path = (page) => new URL(page.url()).pathname;

// signIn follows a sign-in link and presses its button.
export async function signIn(page, url) {
  await page.goto(url);
  await page.getByRole("button", { name: "Sign in" }).click();
}

export const live = (page) => page.locator('#state[data-state="live"]').waitFor();
