// An OpenID Connect provider for the tests: node provider.mjs FOLDER PORT, in FOLDER a settings.json
// {keys, redirectUris, secret, audience, packages}. Users are whoever is in the table; any password does.
//
// Beside the provider's own addresses: PUT /test/keys (another key set), PUT /test/users ({name: [group, ...]}),
// GET /test/counts (requests by path).
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, port] = process.argv.slice(2);
const settings = JSON.parse(readFileSync(`${folder}/settings.json`, "utf-8"));
const resolve = createRequire(`${settings.packages}/`).resolve;
const { Provider } = await import(pathToFileURL(resolve("oidc-provider")).href);

const issuer = `http://127.0.0.1:${port}`;
const counts = {};
let users = settings.users;

// As Azure AD tells them: a upn, and the groups one is in.
const claims = (name) => ({ upn: `${name}@example.org`, groups: users[name] });
const resource = { scope: "call", audience: settings.audience, accessTokenFormat: "jwt", accessTokenTTL: 600 };

function open(keys) {
    const provider = new Provider(issuer, {
        jwks: { keys },
        clients: [
            {
                client_id: "mlhost",
                client_secret: settings.secret,
                redirect_uris: settings.redirectUris,
                grant_types: ["authorization_code"],
                response_types: ["code"],
            },
            {
                client_id: "command",
                application_type: "native",
                token_endpoint_auth_method: "none",
                redirect_uris: [],
                grant_types: ["urn:ietf:params:oauth:grant-type:device_code"],
                response_types: [],
            },
        ],
        claims: { openid: ["sub", "upn", "groups"], profile: ["name"] },
        conformIdTokenClaims: false, // or they would be at the userinfo endpoint only
        cookies: { keys: ["of the tests"] },
        pkce: { required: () => true },
        extraTokenClaims: (ctx, token) => claims(token.accountId),
        findAccount: (ctx, name) =>
            name in users ? { accountId: name, claims: () => ({ sub: name, ...claims(name) }) } : undefined,
        features: {
            deviceFlow: { enabled: true },
            resourceIndicators: {
                enabled: true,
                defaultResource: () => settings.audience,
                useGrantedResource: () => true,
                getResourceServerInfo: () => resource,
            },
        },
    });
    return provider.callback();
}

let answer = open(settings.keys);

async function control(request, response) {
    let body = "";
    for await (const piece of request) body += piece;
    if (request.url === "/test/keys") answer = open(JSON.parse(body));
    if (request.url === "/test/users") users = JSON.parse(body);
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify(counts));
}

createServer((request, response) => {
    if (request.url.startsWith("/test/")) return control(request, response);
    const path = request.url.split("?")[0];
    counts[path] = (counts[path] ?? 0) + 1;
    return answer(request, response);
}).listen(Number(port), "127.0.0.1", () => console.log("ready"));
