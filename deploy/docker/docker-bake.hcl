# All images: docker buildx bake -f deploy/docker/docker-bake.hcl [--push]
# One for each major version of PostgreSQL, whose pg_dump and psql are on the PATH: all hold the programs of all of them.
# Each also as drill, with server programs.
variable "IMAGE" {
  default = "pgark"
}

variable "VERSION" {
  default = "0.0.0"
}

variable "REVISION" {
  default = "unknown"
}

variable "CREATED" {
  default = "1970-01-01T00:00:00Z"
}

variable "SOURCE" {
  default = ""
}

variable "MAJORS" {
  default = ["14", "15", "16", "17", "18"]
}

variable "NEWEST" {
  default = "18"
}

group "default" {
  targets = ["image", "drill"]
}

target "common" {
  context    = "."
  dockerfile = "deploy/docker/Dockerfile"
  platforms  = ["linux/amd64", "linux/arm64"]
  attest     = ["type=provenance,mode=max", "type=sbom"]
  args = {
    PG_REPOSITORY = "pgdg"
    PG_MAJORS     = join(" ", MAJORS)
    VERSION       = VERSION
    REVISION      = REVISION
    CREATED       = CREATED
    SOURCE        = SOURCE
  }
}

target "image" {
  inherits = ["common"]
  matrix   = { major = MAJORS }
  name     = "pg${major}"
  target   = "runtime"
  args     = { PG_MAJOR = major }
  tags = concat(
    ["${IMAGE}:${major}", "${IMAGE}:${VERSION}-pg${major}"],
    major == NEWEST ? ["${IMAGE}:latest", "${IMAGE}:${VERSION}"] : []
  )
}

target "drill" {
  inherits = ["common"]
  matrix   = { major = MAJORS }
  name     = "pg${major}-drill"
  target   = "drill"
  args     = { PG_MAJOR = major }
  tags = concat(
    ["${IMAGE}:${major}-drill", "${IMAGE}:${VERSION}-pg${major}-drill"],
    major == NEWEST ? ["${IMAGE}:drill", "${IMAGE}:${VERSION}-drill"] : []
  )
}
