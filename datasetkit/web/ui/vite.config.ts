// Builds the page into ../static with fixed names, so that the committed bundle can be compared
// byte for byte.
import react from "@vitejs/plugin-react";
import { type Plugin, runnerImport } from "vite";
import { defineConfig } from "vitest/config";

/** A tab's file is named after its folder in src/tabs/. */
function chunkName(chunk: { readonly name: string; readonly facadeModuleId?: string | null }) {
  const tab = /src\/tabs\/([\w-]+)\/index\.tsx$/.exec(chunk.facadeModuleId ?? "");
  return tab ? `tab-${tab[1]}.js` : `${chunk.name}.js`;
}

/** Write the messages of a translation in the order of the English keys, without the keys. */
function valuesOfTranslations(): Plugin {
  return {
    name: "values-of-translations",
    apply: "build",
    async transform(_, id) {
      const language = /src\/messages\/(zh|ru)\.ts$/.exec(id)?.[1];
      if (language === undefined) return null;
      type Messages = Readonly<Record<string, Readonly<Record<string, unknown>>>>;
      const { en } = (await runnerImport<Messages>("/src/messages/en.ts")).module;
      const own = (await runnerImport<Messages>(`/src/messages/${language}.ts`)).module[language];
      const values = Object.keys(en ?? {}).map((key) => own?.[key]);
      return `import { ofValues } from "../i18n";
export const ${language} = ofValues(${JSON.stringify(values)});`;
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
      },
    },
  },
  test: { include: ["tests/**/*.test.ts"], environment: "node" },
});
