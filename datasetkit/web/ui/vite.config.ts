// Builds the page into ../static with fixed names, so that the committed bundle can be compared
// byte for byte.
import react from "@vitejs/plugin-react";
import { type Plugin, runnerImport } from "vite";
import { defineConfig } from "vitest/config";
import { hash } from "./src/hash.ts";

/** A tab's file is named after its folder in src/tabs/. */
function chunkName(chunk: { readonly name: string; readonly facadeModuleId?: string | null }) {
  const tab = /src\/tabs\/([\w-]+)\/index\.tsx$/.exec(chunk.facadeModuleId ?? "");
  return tab ? `tab-${tab[1]}.js` : `${chunk.name}.js`;
}

/**
 * Write the messages of a translation in the order of the English keys, without the keys. The texts
 * of the server, which are the keys of their translations, are a module that both languages import;
 * those without placeholders are there by their hashes, which are shorter.
 */
function valuesOfTranslations(): Plugin {
  type Texts = Readonly<Record<string, unknown>>;
  const SERVER = "server-texts";
  const load = async (name: string) =>
    (await runnerImport<Readonly<Record<string, Texts>>>(`/src/messages/${name}.ts`)).module;
  const keysOf = (texts: Texts | undefined) => Object.keys(texts ?? {});
  return {
    name: "values-of-translations",
    apply: "build",
    resolveId: (id) => (id === SERVER ? id : null),
    async load(id) {
      if (id !== SERVER) return null;
      const texts = keysOf((await load("zh"))["server"]);
      const names = texts.map((text) => (text.includes("{") ? text : hash(text)));
      if (new Set(names).size < names.length) throw new Error("two texts have one hash");
      return `export const texts = ${JSON.stringify(names)};`;
    },
    async transform(_, id) {
      const language = /src\/messages\/(zh|ru)\.ts$/.exec(id)?.[1];
      if (language === undefined) return null;
      const { en } = await load("en");
      const own = await load(language);
      const values = (keys: readonly string[], texts: Texts | undefined) =>
        JSON.stringify(keys.map((key) => texts?.[key]));
      return `import { ofKeys, ofValues } from "../i18n";
import { texts } from "${SERVER}";
export const ${language} = ofValues(${values(keysOf(en), own[language])});
export const server = ofKeys(texts, ${values(keysOf((await load("zh"))["server"]), own["server"])});`;
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [react(), valuesOfTranslations()],
  build: {
    outDir: "../static",
    emptyOutDir: true,
    target: "es2022",
    // The server's content security policy allows no inline scripts and no data: URLs.
    assetsInlineLimit: 0,
    modulePreload: false,
    sourcemap: false,
    reportCompressedSize: false,
    // One file: each tab's styles are few, and none may arrive after its content.
    cssCodeSplit: false,
    rollupOptions: {
      output: {
        entryFileNames: "page.js",
        chunkFileNames: chunkName,
        assetFileNames: "page[extname]",
        // What several tabs share is one file: small files are compressed worse.
        codeSplitting: {
          groups: [{ name: "parts", test: /src\/(parts|tabs)\//, minShareCount: 2 }],
        },
      },
    },
  },
  test: { include: ["tests/**/*.test.ts"], environment: "node" },
});
