// A person makes a passkey, signs in with it, and loses it. The authenticator is
// the browser's own virtual one.
import { context, open, path, signIn, browser } from "./browser.mjs";
import { report as fact, params } from "../clients/lib.mjs";

const c = await context({ ignoreHTTPSErrors: false });
const page = await open(c);
const cdp = await c.newCDPSession(page);
await cdp.send("WebAuthn.enable");
const { authenticatorId } = await cdp.send("WebAuthn.addVirtualAuthenticator", {
  options: { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true },
});
const at = (path) => new URL(path, params.console).href;
const says = () => page.locator("[data-passkey] [role=status]").textContent();
const answered = () => page.waitForFunction(() => document.querySelector("[data-passkey] [role=status]").textContent !== "");
const take = async () => {
  await page.goto(at("/sign-in"));
  await page.getByRole("button", { name: "Sign in with a passkey" }).click();
};

await signIn(page, params.signIn);
await page.goto(at("/account"));
await page.locator("[data-passkey] input").fill("my <b>key</b>");
await page.getByRole("button", { name: "Add a passkey" }).click();
await answered();
fact("made", await says());
fact("recovery codes", await page.locator("[data-passkey] li").count());
await page.screenshot({ path: params.shots + "/passkey-made.png", fullPage: true });
await page.goto(at("/account"));
fact("listed", await page.locator("tr", { hasText: "my <b>key</b>" }).locator("td").first().textContent());
await page.getByRole("button", { name: "Add a passkey" }).click(); // it has one of this person already
await answered();
fact("the same device again", await says());

await page.getByRole("button", { name: "Sign out" }).click();
await take();
await page.waitForURL(at("/"));
fact("signed in", await page.getByRole("button", { name: "Sign out" }).count());
await page.goto(at("/account"));
fact("asked for a second factor", await page.getByRole("heading", { name: "Prove your second factor" }).count());
fact("used", await page.locator("tr", { hasText: "my <b>key</b>" }).getByText("used").count());
await page.getByRole("button", { name: "Sign out" }).click();

// The device is not sure of the person.
await cdp.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified: false });
await take();
await answered();
fact("not verified", await says());
await cdp.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified: true });

// A copy of the key counts from where it was copied.
const { credentials: [key] } = await cdp.send("WebAuthn.getCredentials", { authenticatorId });
await cdp.send("WebAuthn.removeCredential", { authenticatorId, credentialId: key.credentialId });
await cdp.send("WebAuthn.addCredential", { authenticatorId, credential: { ...key, signCount: 0 } });
await take();
await answered();
fact("a copy", await says());

await cdp.send("WebAuthn.removeCredential", { authenticatorId, credentialId: key.credentialId });
await cdp.send("WebAuthn.addCredential", { authenticatorId, credential: { ...key, signCount: 1000 } });
await take();
await page.waitForURL(at("/"));
await page.goto(at("/account"));
await page.getByRole("button", { name: "Remove my <b>key</b>" }).click();
fact("removed", await page.locator("#done").textContent());
await page.getByRole("button", { name: "Sign out" }).click();
await take();
await answered();
fact("with a removed one", await says());
await page.screenshot({ path: params.shots + "/passkey-refused.png" });
fact("where", path(page));
fact("violations", await page.evaluate(() => window.violations));
await browser.close();
