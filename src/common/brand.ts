/** A string that has been checked to be one kind of identifier: `type RunId = Brand<string, 'RunId'>`. */
export type Brand<T, Name extends string> = T & { readonly __brand: Name };
